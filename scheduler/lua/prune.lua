-- Members that have been stale for as long again as it took to become stale are forgotten, and their claims end.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), how many to look at, missed heartbeats after which the stale are forgotten
-- Returns the pruned members and their identities, in turn.
local now = moment(ARGV[1])
local pruned = {}
local stale = redis.call('ZRANGEBYSCORE', key('presence'), '-inf', seconds(now), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #stale, 2 do
  local member = stale[i]
  local held = redis.call('HGET', key('hosts'), member)
  if not held or now - tonumber(stale[i + 1]) > ARGV[3] * cjson.decode(held).heartbeat_interval then
    remove(member, now, 'was not heard of for 6 heartbeats')
    count('hosts_pruned')
    pruned[#pruned + 1] = member
    pruned[#pruned + 1] = held or ''
  end
end
return pruned
