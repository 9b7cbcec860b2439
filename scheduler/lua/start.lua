-- A host begins a task: the fence. What is not placed here any more, or runs already, must not run.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), host, id, attempt
-- Returns "go"; "running" if it was begun before; "gone" if the claim ended.
local now = moment(ARGV[1])
local field = ARGV[3] .. ':' .. ARGV[4]
local held = redis.call('HGET', key('claims:' .. ARGV[2]), field)
if not held then
  count('claims_fenced')
  return 'gone'
end
local claim = cjson.decode(held)
if claim.state == 'running' then
  count('claims_fenced')
  return 'running'
end
claim.state, claim.started_at = 'running', seconds(now)
local service = redis.call('HGET', key('hosts'), claim.service .. '/' .. claim.host)
if service then claim.boot = cjson.decode(service).boot end
redis.call('HSET', key('claims:' .. ARGV[2]), field, cjson.encode(claim))
redis.call('ZREM', key('deadlines'), ARGV[2] .. ' ' .. field)
return 'go'
