-- A host says which claims it really holds: what it runs counts, whatever became of its claim, and what it says it no
-- longer runs has ended. Then what is used is counted anew from the claims that exist.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), host, boot, when it looked (seconds since 1970, fleet's clock), seconds in which
--       a claim that it did not list yet may have begun, the claims that it runs (JSON, in the form of claims:<host>),
--       then the members that the reporter holds
-- Returns {adopted, dropped, repaired}: how many claims were added and ended, and how many sums were wrong.
local now = moment(ARGV[1])
local host, looked_at = ARGV[2], tonumber(ARGV[4])
local adopted, dropped, repaired = 0, 0, 0
local mine, runs = {}, {} -- another worker may hold other services of the same host
for i = 7, #ARGV do
  local identity = redis.call('HGET', key('hosts'), ARGV[i])
  -- since its report was stored it may have gone, or another life of it have come
  if not identity or cjson.decode(identity).boot ~= tonumber(ARGV[3]) then return {0, 0, 0} end
  mine[ARGV[i]] = true
end
for _, claim in ipairs(cjson.decode(ARGV[6])) do
  local field = claim.id .. ':' .. claim.attempt
  runs[field] = true
  -- what may not have passed the fence is held, and no more
  if claim.is_begun ~= false and redis.call('HEXISTS', key('claims:' .. host), field) == 0
    and not redis.call('ZSCORE', key('released'), host .. ' ' .. field) then
    claim.host, claim.state, claim.boot, claim.placed_at = host, 'running', tonumber(ARGV[3]), seconds(looked_at)
    claim.started_at = claim.placed_at
    redis.call('HSET', key('claims:' .. host), field, cjson.encode(claim))
    withdraw(claim.amounts, 1)
    adopted = adopted + 1
    count('claims_adopted')
  end
end
local held = redis.call('HGETALL', key('claims:' .. host))
for i = 1, #held, 2 do
  local claim = cjson.decode(held[i + 1])
  if claim.state == 'running' and mine[claim.service .. '/' .. host] and not runs[held[i]] and tonumber(claim.started_at) + ARGV[5] < looked_at then
    dropped = dropped + 1
    count('claims_dropped')
    lose(claim, now, host .. ' says that it no longer runs it, and told nobody how it ended', host)
  end
end
local sums = {}
held = redis.call('HVALS', key('claims:' .. host))
for _, document in ipairs(held) do
  for member, resources in pairs(cjson.decode(document).amounts) do
    sums[member] = sums[member] or {}
    for resource, amount in pairs(resources) do
      sums[member][resource] = (sums[member][resource] or 0) + amount
    end
  end
end
local function differ(one, other)
  for resource, amount in pairs(one) do
    if other[resource] ~= amount then return true end
  end
  return false
end
for i = 7, #ARGV do -- the members of this host
  local member = ARGV[i]
  local right = sums[member] or {}
  local used = cjson.decode(redis.call('HGET', key('used'), member) or '{}')
  if differ(right, used) or differ(used, right) then
    repaired = repaired + 1
    count('claims_repaired')
    if next(right) then
      redis.call('HSET', key('used'), member, cjson.encode(right))
    else
      redis.call('HDEL', key('used'), member)
    end
    wake('repaired', host)
  end
end
return {adopted, dropped, repaired}
