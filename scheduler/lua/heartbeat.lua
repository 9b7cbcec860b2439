-- A worker says that it is there. Writes one score per member and nothing else.
-- KEYS  hosts, presence
-- ARGV  now ('' = this server's clock), instance, seconds until it is stale, then the members
-- Returns {now, word}: "ok", "unknown" (Redis was emptied or the host pruned: join again) or "replaced" (another
-- instance holds one of the names: stop).
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1e6
end
local answer = 'ok'
for i = 4, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if not held then
    answer = 'unknown'
  elseif cjson.decode(held).instance ~= ARGV[2] then
    return {string.format('%.6f', now), 'replaced'}
  end
end
if answer == 'ok' then
  local stale_at = string.format('%.6f', now + ARGV[3])
  for i = 4, #ARGV do
    redis.call('ZADD', KEYS[2], stale_at, ARGV[i])
  end
end
return {string.format('%.6f', now), answer}
