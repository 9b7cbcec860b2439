-- A worker gives its names back: nothing of it stays in the table but what an operator said of the host. What it had
-- not begun is placed elsewhere.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), instance, then the members
-- Returns how many of them it still held.
local now = moment(ARGV[1])
local left = 0
for i = 3, #ARGV do
  local held = redis.call('HGET', key('hosts'), ARGV[i])
  if held and cjson.decode(held).instance == ARGV[2] then
    remove(ARGV[i], now, 'stopped')
    left = left + 1
  end
end
return left
