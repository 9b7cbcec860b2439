-- A host begins a task: the fence. What is not placed here any more, or runs already, must not run.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), host, id, attempt, a word of whoever begins, the same if it asks again
-- Returns "go"; "running" if somebody else began it before; "gone" if the claim ended.
local now = moment(ARGV[1])
local field = ARGV[3] .. ':' .. ARGV[4]
local held = redis.call('HGET', key('claims:' .. ARGV[2]), field)
if not held then
  count('claims_fenced')
  return 'gone'
end
local claim = cjson.decode(held)
if claim.state == 'running' then
  if claim.begun_by == ARGV[5] then return 'go' end -- the answer was lost on its way
  count('claims_fenced')
  return 'running'
end
claim.state, claim.started_at, claim.begun_by = 'running', seconds(now), ARGV[5]
local service = redis.call('HGET', key('hosts'), claim.service .. '/' .. claim.host)
if service then claim.boot = cjson.decode(service).boot end
redis.call('HSET', key('claims:' .. ARGV[2]), field, cjson.encode(claim))
redis.call('ZREM', key('deadlines'), ARGV[2] .. ' ' .. field)
return 'go'
