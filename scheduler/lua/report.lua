-- Reports become rows: many reports a call, each row all or nothing, newest wins.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), then six for each service of each report: member, boot, sequence, interval (s),
--       capabilities (JSON; '' = alive, and what was reported stays), what can be claimed of them (JSON, thousandths)
-- Returns one word per service: "stored", "old" (late or repeated: nothing changed) or "unknown" (no such member of
-- this boot: pruned, stopped, replaced or never there).
local now = moment(ARGV[1])
local answers = {}
for i = 2, #ARGV, 6 do
  local member, boot, sequence = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local held = redis.call('HGET', key('hosts'), member)
  local answer
  if not held or cjson.decode(held).boot ~= boot then
    answer = 'unknown'
  else
    -- liveness and capabilities are ordered apart: a null that overtakes what came before it must not silence it
    local carries = ARGV[i + 4] ~= ''
    local before = redis.call('HGET', key('reports'), member)
    local last = before and cjson.decode(before) or {sequence = -1, known = -1, changed = -1}
    if sequence <= last.sequence and not (carries and sequence > last.known) then
      answer = 'old'
    else
      answer = 'stored'
      local is_news = not before or now - last.at > 2 * last.interval -- it may have been stale by its silence
      if carries then
        if redis.call('HGET', key('capabilities'), member) ~= ARGV[i + 4]
          or redis.call('HEXISTS', key('totals'), member) == 0 then
          redis.call('HSET', key('capabilities'), member, ARGV[i + 4])
          redis.call('HSET', key('totals'), member, ARGV[i + 5])
          last.changed, is_news = sequence, true
          local service = split(member)
          for name in pairs(cjson.decode(ARGV[i + 4])) do
            if redis.call('SCARD', key('keys')) < MOST_KEYS then
              redis.call('SADD', key('keys'), service .. '.' .. name)
            end
          end
        end
        last.known = sequence
      end
      if sequence > last.sequence then
        last.sequence, last.at, last.interval = sequence, now, ARGV[i + 3]
      end
      redis.call('HSET', key('reports'), member, string.format(
        '{"sequence":%.0f,"known":%.0f,"changed":%.0f,"at":%.3f,"interval":%s}',
        last.sequence, last.known, last.changed or -1, last.at, last.interval))
      if is_news then
        local _, host = split(member)
        wake('reported', host)
      end
    end
  end
  answers[#answers + 1] = answer
  count('reports_' .. answer)
end
return answers
