-- A host takes a period of a periodic task of the whole fleet; of several hosts that try, one does.
-- KEYS  runs
-- ARGV  task, the last run that the host has seen ("" for none), what is to count as the last run from now on
-- Returns 1 for the host that was first, else 0.
local last = redis.call('HGET', KEYS[1], ARGV[1])
if (last or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
