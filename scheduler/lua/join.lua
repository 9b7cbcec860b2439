-- A worker takes its names in the table: all of them or none.
-- KEYS  hosts, presence, reports, capabilities, draining, since
-- ARGV  now ('' = this server's clock), identity (JSON), boot (0 = a new one), the instances whose names may be taken
--       although they are not stale (JSON), then the members "<service>/<host>"
-- Returns {now, boot} when joined; {now, '', member, identity, seconds until stale} when another instance holds one.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1e6
end
local identity, boot = cjson.decode(ARGV[2]), tonumber(ARGV[3])
local free = {[identity.instance] = true}
for _, instance in ipairs(cjson.decode(ARGV[4])) do free[instance] = true end
local is_new = boot == 0
-- a boot number is the time of the start in milliseconds: cjson writes 14 digits, a microsecond would not fit
if is_new then boot = math.floor(now * 1000) end
for i = 6, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if held then
    local holder = cjson.decode(held)
    local stale_at = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or 0)
    if not free[holder.instance] and stale_at > now then
      return {string.format('%.6f', now), '', ARGV[i], held, string.format('%.6f', stale_at - now)}
    end
    if is_new then boot = math.max(boot, holder.boot + 1) end
  end
end
identity.boot = boot
identity.joined_at = tonumber(string.format('%.3f', now))
local document = cjson.encode(identity)
for i = 6, #ARGV do
  if is_new then
    redis.call('HDEL', KEYS[3], ARGV[i])
    redis.call('HDEL', KEYS[4], ARGV[i])
  end
  redis.call('HSET', KEYS[1], ARGV[i], document)
  redis.call('HDEL', KEYS[5], ARGV[i])
  redis.call('ZADD', KEYS[2], string.format('%.6f', now + ARGV[5]), ARGV[i])
end
redis.call('SET', KEYS[6], string.format('%.6f', now), 'NX')
return {string.format('%.6f', now), string.format('%.0f', boot)}
