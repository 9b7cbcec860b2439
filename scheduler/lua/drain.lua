-- A worker says that it takes no new work; a word for names that another instance took over is not heard.
-- KEYS  the prefix of all keys
-- ARGV  instance, why, then the members
-- Returns how many of them it still held.
local drained = 0
for i = 3, #ARGV do
  local held = redis.call('HGET', key('hosts'), ARGV[i])
  if held and cjson.decode(held).instance == ARGV[1] then
    redis.call('HSET', key('draining'), ARGV[i], ARGV[2])
    drained = drained + 1
  end
end
return drained
