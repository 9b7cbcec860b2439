-- A claim ends with its task, however that ended.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), host, id, attempt, outcome, what becomes of the request: "over"; "again" (it is
--       placed anew, not on this host if another will do), "anew" (the same, and nobody is to blame) or "failing" (no
--       host can ever get it), why
-- Returns "released", or "gone" where there is no such claim.
local now = moment(ARGV[1])
local host, field = ARGV[2], ARGV[3] .. ':' .. ARGV[4]
-- a report that was written before this must not bring it back
redis.call('ZADD', key('released'), seconds(now), host .. ' ' .. field)
local held = redis.call('HGET', key('claims:' .. host), field)
if not held then return 'gone' end
local claim = cjson.decode(held)
local request = redis.call('HGET', key('requests'), claim.id)
if ARGV[5] == 'lost' then
  note_failure(host, now, 3)
elseif ARGV[5] == 'failed' then
  note_failure(host, now, 1)
elseif ARGV[5] == 'done' then
  redis.call('HDEL', key('failures'), host)
end
if not end_claim(claim) then return 'released' end
request = request and cjson.decode(request)
local why = ARGV[7] ~= '' and ARGV[7] or nil
if ARGV[6] ~= 'anew' then write_down(claim, request, ARGV[5], now, why) end
if ARGV[6] == 'again' then
  place_again(claim, request, now, why, host, true)
elseif ARGV[6] == 'anew' then
  place_again(claim, request, now, why, nil, false)
elseif ARGV[6] == 'failing' then
  redis.call('HSET', key('failing'), claim.id, cjson.encode({kind = ARGV[5], why = why}))
else
  forget(claim.id, claim.task_id, now)
end
return 'released'
