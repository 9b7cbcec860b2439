-- A worker takes its names in the table: all of them or none. What an earlier life of the names ran is lost.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), identity (JSON), boot (0 = a new one), the instances whose names may be taken
--       although they are not stale (JSON), seconds until it is stale, then the members "<service>/<host>"
-- Returns {now, boot} when joined; {now, '', member, identity, seconds until stale} when another instance holds one.
local now = moment(ARGV[1])
local identity, boot = cjson.decode(ARGV[2]), tonumber(ARGV[3])
local free = {[identity.instance] = true}
for _, instance in ipairs(cjson.decode(ARGV[4])) do free[instance] = true end
local is_new = boot == 0
-- a boot number is the time of the start in milliseconds: cjson writes 14 digits, a microsecond would not fit
if is_new then boot = math.floor(now * 1000) end
for i = 6, #ARGV do
  local held = redis.call('HGET', key('hosts'), ARGV[i])
  if held then
    local holder = cjson.decode(held)
    local stale_at = tonumber(redis.call('ZSCORE', key('presence'), ARGV[i]) or 0)
    if not free[holder.instance] and stale_at > now then
      return {seconds(now), '', ARGV[i], held, seconds(stale_at - now)}
    end
    if is_new then boot = math.max(boot, holder.boot + 1) end
  end
end
identity.boot = boot
identity.joined_at = tonumber(string.format('%.3f', now))
local document = cjson.encode(identity)
for i = 6, #ARGV do
  local service, host = split(ARGV[i])
  if is_new then
    for _, name in ipairs({'reports', 'capabilities', 'totals'}) do redis.call('HDEL', key(name), ARGV[i]) end
    end_host(host, now, host .. ' was started anew while it ran', function(claim)
      return claim.service == service and claim.state == 'running' and claim.boot ~= boot
    end)
  end
  redis.call('HSET', key('hosts'), ARGV[i], document)
  redis.call('HDEL', key('draining'), ARGV[i])
  redis.call('ZADD', key('presence'), seconds(now + ARGV[5]), ARGV[i])
  wake('joined', host)
end
redis.call('SET', key('since'), seconds(now), 'NX')
return {seconds(now), string.format('%.0f', boot)}
