-- A worker gives its names back: nothing of it stays in the table but what an operator said of the host.
-- KEYS  hosts, presence, reports, capabilities, draining
-- ARGV  instance, then the members
-- Returns how many of them it still held.
local left = 0
for i = 2, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if held and cjson.decode(held).instance == ARGV[1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('HDEL', KEYS[3], ARGV[i])
    redis.call('HDEL', KEYS[4], ARGV[i])
    redis.call('HDEL', KEYS[5], ARGV[i])
    left = left + 1
  end
end
return left
