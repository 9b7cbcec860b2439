-- A worker says that it is there. Writes one score per member and nothing else.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), instance, seconds until it is stale, then the members
-- Returns {now, word}: "ok", "unknown" (Redis was emptied or the host pruned: join again) or "replaced" (another
-- instance holds one of the names: stop).
local now = moment(ARGV[1])
local answer = 'ok'
for i = 4, #ARGV do
  local held = redis.call('HGET', key('hosts'), ARGV[i])
  if not held then
    answer = 'unknown'
  elseif cjson.decode(held).instance ~= ARGV[2] then
    return {seconds(now), 'replaced'}
  end
end
if answer == 'ok' then
  local stale_at = seconds(now + ARGV[3])
  for i = 4, #ARGV do
    if tonumber(redis.call('ZSCORE', key('presence'), ARGV[i]) or 0) <= now then
      local _, host = split(ARGV[i])
      wake('back', host)
    end
    redis.call('ZADD', key('presence'), stale_at, ARGV[i])
  end
end
return {seconds(now), answer}
