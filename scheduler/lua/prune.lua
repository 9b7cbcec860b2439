-- Members that have been stale for as long again as it took to become stale are forgotten.
-- KEYS  hosts, presence, reports, capabilities, draining, counters
-- ARGV  now ('' = this server's clock), how many to look at, missed heartbeats after which the stale are forgotten
-- Returns the pruned members and their identities, in turn.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1e6
end
local pruned = {}
local stale = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #stale, 2 do
  local member = stale[i]
  local held = redis.call('HGET', KEYS[1], member)
  if not held or now - tonumber(stale[i + 1]) > ARGV[3] * cjson.decode(held).heartbeat_interval then
    redis.call('HDEL', KEYS[1], member)
    redis.call('ZREM', KEYS[2], member)
    redis.call('HDEL', KEYS[3], member)
    redis.call('HDEL', KEYS[4], member)
    redis.call('HDEL', KEYS[5], member)
    redis.call('HINCRBY', KEYS[6], 'hosts_pruned', 1)
    pruned[#pruned + 1] = member
    pruned[#pruned + 1] = held or ''
  end
end
return pruned
