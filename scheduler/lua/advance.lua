-- A host takes a period of a periodic task of the whole fleet; of several hosts that try, one does.
-- KEYS  the prefix of all keys
-- ARGV  task, the last run that the host has seen ("" for none), what is to count as the last run from now on
-- Returns 1 for the host that was first, else 0.
local last = redis.call('HGET', key('runs'), ARGV[1])
if (last or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', key('runs'), ARGV[1], ARGV[3])
return 1
