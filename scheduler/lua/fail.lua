-- A unit that waits for a place is given up: what becomes of its tasks is then the scheduler's to say.
-- KEYS  the prefix of all keys
-- ARGV  unit, the shape it waits under, kind (timeout, expired, revoked), why
-- Returns 1, or 0 where it no longer waits.
local unit, shape = ARGV[1], ARGV[2]
local is_delayed = redis.call('ZREM', key('delayed'), unit .. ' ' .. shape) == 1
if not unpark(unit, shape) and not is_delayed then return 0 end
redis.call('ZREM', key('timeouts'), unit)
local gang = redis.call('HGET', key('gangs'), unit)
redis.call('HDEL', key('gangs'), unit)
for _, id in ipairs(gang and cjson.decode(gang) or {unit}) do
  redis.call('HSET', key('failing'), id, cjson.encode({kind = ARGV[3], why = ARGV[4]}))
end
return 1
