-- The one step that claims: a unit gets the first of its candidates that still fit, all of them or none. Only this
-- script adds claims for work to be done, and it checks live numbers: whatever the caller believed, no host is given
-- more than it has.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), unit, the shape it waits under, seconds in which a host must begin,
--       candidates (JSON: host, service, boot, changed {member: sequence}, amounts {member: {resource: thousandths}}),
--       what to remember the host by ('' = nothing), a word of whoever claims, the same if it asks again, then the
--       ids of the unit's requests
-- Returns {"claimed", host, attempt, request, message, host, ...}; {"placed"} if it was claimed before; {"gone"} if it
-- no longer waits; {"refused", code, code, ...} with a code for each candidate looked at: absent, stale, draining,
-- disabled, changed (it reported anew since), full:<resource>, or fits, where too few do.
local now = moment(ARGV[1])
local unit, shape = ARGV[2], ARGV[3]
local within = assert(tonumber(ARGV[4]), 'seconds in which a host must begin') -- before anything is written
local ids = {}
for i = 8, #ARGV do ids[#ids + 1] = ARGV[i] end

local answer = {'claimed'}
local function tell(id, host, attempt, document)
  answer[#answer + 1] = host
  answer[#answer + 1] = tostring(attempt)
  answer[#answer + 1] = document
  answer[#answer + 1] = redis.call('HGET', key('messages'), id)
end

if redis.call('HEXISTS', key('placed'), ids[1]) == 1 then
  unpark(unit, shape)
  for _, id in ipairs(ids) do
    local host, attempt = redis.call('HGET', key('placed'), id), redis.call('HGET', key('attempts'), id)
    local held = host and redis.call('HGET', key('claims:' .. host), id .. ':' .. attempt)
    if not held or cjson.decode(held).placed_by ~= ARGV[7] then return {'placed'} end
    tell(id, host, attempt, redis.call('HGET', key('requests'), id)) -- the answer was lost on its way
  end
  return answer
end
if not redis.call('ZSCORE', key('pending:' .. shape), unit) then return {'gone'} end

local function refusal(candidate)
  local member = candidate.service .. '/' .. candidate.host
  local identity = redis.call('HGET', key('hosts'), member)
  if not identity or cjson.decode(identity).boot ~= candidate.boot then return 'absent' end
  if tonumber(redis.call('ZSCORE', key('presence'), member) or 0) <= now then return 'stale' end
  if redis.call('HEXISTS', key('draining'), member) == 1 then return 'draining' end
  if redis.call('HEXISTS', key('disabled'), member) == 1 then return 'disabled' end
  for of, sequence in pairs(candidate.changed) do
    local report = redis.call('HGET', key('reports'), of)
    if not report or (cjson.decode(report).changed or -1) ~= sequence then return 'changed' end
  end
  for of, resources in pairs(candidate.amounts) do
    local total = cjson.decode(redis.call('HGET', key('totals'), of) or '{}')
    local used = cjson.decode(redis.call('HGET', key('used'), of) or '{}')
    for resource, amount in pairs(resources) do
      if (total[resource] or 0) - (used[resource] or 0) < amount then return 'full:' .. resource end
    end
  end
  return nil
end

local wanted, fitting, codes = #ids, {}, {'refused'}
for _, candidate in ipairs(cjson.decode(ARGV[5])) do
  local code = refusal(candidate)
  if code then
    codes[#codes + 1] = code
  else
    codes[#codes + 1] = 'fits'
    fitting[#fitting + 1] = candidate
    if #fitting == wanted then break end
  end
end
if #fitting < wanted then return codes end

for i, candidate in ipairs(fitting) do
  local id, host = ids[i], candidate.host
  local document = redis.call('HGET', key('requests'), id)
  local request = cjson.decode(document)
  local attempt = redis.call('HINCRBY', key('attempts'), id, 1)
  local field = id .. ':' .. attempt
  redis.call('HSET', key('claims:' .. host), field, cjson.encode({
    id = id, attempt = attempt, task_id = request.task_id, task = request.task, service = candidate.service,
    host = host, boot = candidate.boot, state = 'placed', placed_at = seconds(now), amounts = candidate.amounts,
    placed_by = ARGV[7], is_late = request.is_late}))
  withdraw(candidate.amounts, 1)
  redis.call('HSET', key('placed'), id, host)
  redis.call('HSET', key('ran'), request.task_id, host)
  redis.call('ZADD', key('ran_at'), seconds(now), request.task_id)
  if redis.call('ZSCORE', key('followed'), request.task_id) then wake('placed', host) end
  redis.call('ZADD', key('deadlines'), seconds(now + within), host .. ' ' .. field)
  if ARGV[6] ~= '' then
    redis.call('HSET', key('sticky'), ARGV[6], host)
    redis.call('ZADD', key('sticky_at'), seconds(now), ARGV[6])
  end
  count('requests_placed')
  tell(id, host, attempt, document)
end
unpark(unit, shape)
redis.call('ZREM', key('timeouts'), unit)
redis.call('HDEL', key('gangs'), unit)
return answer
