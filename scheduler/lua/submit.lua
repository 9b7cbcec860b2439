-- Requests are recorded, before anybody is told of them; one, or several that are placed together or not at all.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), unit (the first request's id), the shape it waits under, rank (lower goes first),
--       not before (seconds since 1970, or ''), seconds until it is given up ('' = never), its expiry (since 1970, or
--       ''), the tasks whose hosts it asks about (JSON), then for each request: id, task id, document (JSON), message
--       (JSON)
-- Returns "recorded" if a scheduler must be told of the shape; "told" if one was and has yet to look, "later" if its
-- time has yet to come, "known" if it was recorded before, "over" if it has even ended since.
local now = moment(ARGV[1])
local unit, shape = ARGV[2], ARGV[3]
if redis.call('HEXISTS', key('requests'), unit) == 1 then return 'known' end
if redis.call('ZSCORE', key('over'), unit) then return 'over' end
local rank = assert(tonumber(ARGV[4]), 'rank')
local order = string.format('%.0f', rank * 2 ^ 40 + redis.call('INCR', key('arrivals')))
local ids = {}
for _, task_id in ipairs(cjson.decode(ARGV[8])) do redis.call('ZADD', key('followed'), seconds(now), task_id) end
for i = 9, #ARGV, 4 do
  ids[#ids + 1] = ARGV[i]
  redis.call('HSET', key('requests'), ARGV[i], ARGV[i + 2])
  redis.call('HSET', key('messages'), ARGV[i], ARGV[i + 3])
  redis.call('HSET', key('submitted'), ARGV[i], seconds(now))
  redis.call('HSET', key('orders'), ARGV[i], order)
  redis.call('HSET', key('open'), ARGV[i + 1], ARGV[i])
  count('requests_recorded')
end
if #ids > 1 then redis.call('HSET', key('gangs'), unit, cjson.encode(ids)) end
local not_before, word = tonumber(ARGV[5]), 'later'
if not_before and not_before > now then
  redis.call('ZADD', key('delayed'), seconds(not_before), unit .. ' ' .. shape)
else
  not_before = now
  word = park(unit, shape, order, now) and 'recorded' or 'told'
end
local until_when = tonumber(ARGV[6]) and not_before + tonumber(ARGV[6])
local expiry = tonumber(ARGV[7])
if expiry and (not until_when or expiry < until_when) then until_when = expiry end
if until_when then
  redis.call('ZADD', key('timeouts'), seconds(until_when), unit)
  for _, id in ipairs(ids) do redis.call('HSET', key('until'), id, seconds(until_when)) end
end
return word
