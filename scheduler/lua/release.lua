-- A claim ends with its task, however that ended.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), host, id, attempt, outcome, what becomes of the request: "over", "again" (it is
--       placed anew, not on this host if another will do), "unsent" (the same, and it was not its fault) or "returned"
--       (its message waits in this host's queue once more, for so many seconds), those seconds, why
-- Returns "released", or "gone" where there is no such claim.
local now = moment(ARGV[1])
local host, field = ARGV[2], ARGV[3] .. ':' .. ARGV[4]
-- a report that was written before this must not bring it back
redis.call('ZADD', key('released'), seconds(now), host .. ' ' .. field)
local held = redis.call('HGET', key('claims:' .. host), field)
if not held then return 'gone' end
local claim = cjson.decode(held)
if ARGV[6] == 'returned' then
  redis.call('ZREM', key('released'), host .. ' ' .. field)
  claim.state, claim.started_at = 'placed', nil
  redis.call('HSET', key('claims:' .. host), field, cjson.encode(claim))
  redis.call('ZADD', key('deadlines'), seconds(now + ARGV[7]), host .. ' ' .. field)
  return 'released'
end
local request = redis.call('HGET', key('requests'), claim.id)
if ARGV[5] == 'lost' then
  note_failure(host, now, 3)
elseif ARGV[5] == 'failed' then
  note_failure(host, now, 1)
elseif ARGV[5] == 'done' then
  redis.call('HDEL', key('failures'), host)
end
if not end_claim(claim) then return 'released' end
if ARGV[6] == 'unsent' then
  place_again(claim.id, now, nil, nil, false)
  return 'released'
end
write_down(claim, request and cjson.decode(request), ARGV[5], now, ARGV[8] ~= '' and ARGV[8] or nil)
if ARGV[6] == 'again' then
  place_again(claim.id, now, ARGV[8], host, true)
else
  forget(claim.id, claim.task_id)
end
return 'released'
