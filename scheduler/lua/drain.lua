-- A worker says that it takes no new work; a word for names that another instance took over is not heard.
-- KEYS  hosts, draining
-- ARGV  instance, why, then the members
-- Returns how many of them it still held.
local drained = 0
for i = 3, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if held and cjson.decode(held).instance == ARGV[1] then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[2])
    drained = drained + 1
  end
end
return drained
