-- Reports become rows: many reports a call, each row all or nothing, newest wins.
-- KEYS  hosts, reports, capabilities, counters
-- ARGV  now ('' = this server's clock), then five for each service of each report: member, boot, sequence, interval (s),
--       capabilities (JSON; '' = alive, and what was reported stays)
-- Returns one word per service: "stored", "old" (late or repeated: nothing changed) or "unknown" (no such member of
-- this boot: pruned, stopped, replaced or never there).
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1e6
end
local answers = {}
for i = 2, #ARGV, 5 do
  local member, boot, sequence = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local held = redis.call('HGET', KEYS[1], member)
  local answer
  if not held or cjson.decode(held).boot ~= boot then
    answer = 'unknown'
  else
    -- liveness and capabilities are ordered apart: a null that overtakes what came before it must not silence it
    local carries = ARGV[i + 4] ~= ''
    local last = redis.call('HGET', KEYS[2], member)
    last = last and cjson.decode(last) or {sequence = -1, known = -1}
    if sequence <= last.sequence and not (carries and sequence > last.known) then
      answer = 'old'
    else
      answer = 'stored'
      if carries then
        redis.call('HSET', KEYS[3], member, ARGV[i + 4])
        last.known = sequence
      end
      if sequence > last.sequence then
        last.sequence, last.at, last.interval = sequence, now, ARGV[i + 3]
      end
      redis.call('HSET', KEYS[2], member, string.format(
        '{"sequence":%.0f,"known":%.0f,"at":%.3f,"interval":%s}', last.sequence, last.known, last.at, last.interval))
    end
  end
  answers[#answers + 1] = answer
  redis.call('HINCRBY', KEYS[4], 'reports_' .. answer, 1)
end
return answers
