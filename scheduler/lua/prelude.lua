-- What the scripts of claims and requests share; put before each of them. Its keys stand in scheduler/claims.py.
local prefix = KEYS[1]

local function key(name) return prefix .. name end

local function moment(stamp)
  local now = tonumber(stamp)
  if now then return now end
  local time = redis.call('TIME')
  return time[1] + time[2] / 1e6
end

local function seconds(number) return string.format('%.6f', number) end

local function split(member) return string.match(member, '^(.-)/(.*)$') end

local function count(counter) redis.call('HINCRBY', key('counters'), counter, 1) end

-- Something changed by which a request may fit that did not fit before.
local function wake(what, host)
  redis.call('XADD', key('events'), 'MAXLEN', '~', 10000, '*', 'what', what, 'host', host)
end

local function withdraw(amounts, sign)
  for member, resources in pairs(amounts) do
    local held = redis.call('HGET', key('used'), member)
    local used, is_any = held and cjson.decode(held) or {}, false
    for resource, amount in pairs(resources) do
      used[resource] = (used[resource] or 0) + sign * amount
      if used[resource] == 0 then used[resource] = nil end
    end
    for _ in pairs(used) do is_any = true end
    if is_any then
      redis.call('HSET', key('used'), member, cjson.encode(used))
    else
      redis.call('HDEL', key('used'), member)
    end
  end
end

-- Puts a unit among those that wait for a place; returns whether somebody must be told, since nobody was before who has
-- yet to look.
local function park(unit, shape, order, now)
  redis.call('ZADD', key('pending:' .. shape), order, unit)
  redis.call('ZADD', key('shapes'), 'LT', order, shape)
  return redis.call('ZADD', key('announced'), 'NX', seconds(now), shape) == 1
end

-- Takes a unit from among those that wait; returns whether it was there.
local function unpark(unit, shape)
  local was_there = redis.call('ZREM', key('pending:' .. shape), unit) == 1
  local head = redis.call('ZRANGE', key('pending:' .. shape), 0, 0, 'WITHSCORES')
  if head[2] then
    redis.call('ZADD', key('shapes'), head[2], shape)
  else
    redis.call('ZREM', key('shapes'), shape)
    redis.call('ZREM', key('announced'), shape)
  end
  return was_there
end

-- Writes the end of an attempt down for the history; the oldest go if nobody fetches them.
local function write_down(claim, request, outcome, now, why)
  redis.call('RPUSH', key('ended'), cjson.encode({
    request_id = claim.id, attempt = claim.attempt, task_id = claim.task_id, task = claim.task,
    service = claim.service, host = claim.host, outcome = outcome, claims = request and request.claims or claim.amounts,
    submitted_at = redis.call('HGET', key('submitted'), claim.id) or claim.placed_at,
    placed_at = claim.placed_at, started_at = claim.started_at, ended_at = seconds(now), reasons = why}))
  if redis.call('LLEN', key('ended')) > 100000 then
    redis.call('LPOP', key('ended'))
    count('history_dropped')
  end
end

local function forget(id, task_id)
  for _, name in ipairs({'requests', 'messages', 'submitted', 'orders', 'until', 'attempts', 'strikes', 'avoided', 'placed'}) do
    redis.call('HDEL', key(name), id)
  end
  redis.call('ZREM', key('timeouts'), id)
  if redis.call('HGET', key('open'), task_id) == id then redis.call('HDEL', key('open'), task_id) end
end

-- Ends a claim: its amounts are free. Returns whether it was the one by which its request is placed.
local function end_claim(claim)
  local field = claim.id .. ':' .. claim.attempt
  redis.call('HDEL', key('claims:' .. claim.host), field)
  redis.call('ZREM', key('deadlines'), claim.host .. ' ' .. field)
  withdraw(claim.amounts, -1)
  wake('released', claim.host)
  local is_current = redis.call('HGET', key('placed'), claim.id) == claim.host
    and tonumber(redis.call('HGET', key('attempts'), claim.id)) == claim.attempt
  if is_current then redis.call('HDEL', key('placed'), claim.id) end
  return is_current
end

-- A request whose place came to nothing waits for another one; after max_attempts for which it may be to blame it fails.
local function place_again(id, now, why, avoided, is_fault)
  local held = redis.call('HGET', key('requests'), id)
  if not held then return end
  local request = cjson.decode(held)
  if avoided then
    local known = redis.call('HGET', key('avoided'), id)
    local hosts = known and cjson.decode(known) or {}
    hosts[#hosts + 1] = avoided
    redis.call('HSET', key('avoided'), id, cjson.encode(hosts))
  end
  if is_fault and redis.call('HINCRBY', key('strikes'), id, 1) >= request.max_attempts then
    redis.call('HSET', key('failing'), id, cjson.encode({kind = 'attempts', why = why}))
  else
    park(id, request.shape, redis.call('HGET', key('orders'), id), now)
    local until_when = redis.call('HGET', key('until'), id)
    if until_when then redis.call('ZADD', key('timeouts'), until_when, id) end
  end
  wake('again', avoided or '')
end

-- Adds to what speaks against a host; what is older than 10 minutes is forgiven.
local function note_failure(host, now, weight)
  local number, at = string.match(redis.call('HGET', key('failures'), host) or '0 0', '^(%S+) (%S+)$')
  if now - at > 600 then number = 0 end
  redis.call('HSET', key('failures'), host, string.format('%d %.3f', number + weight, now))
end

-- A host, or one life of it, is over: what it had not begun is placed again, what it ran is lost unless it may run
-- twice. is_over(claim) says which of its claims are meant.
local function end_host(host, now, why, is_over)
  local held = redis.call('HGETALL', key('claims:' .. host))
  for i = 2, #held, 2 do
    local claim = cjson.decode(held[i])
    if is_over(claim) then
      local begun = claim.state == 'running'
      local request = redis.call('HGET', key('requests'), claim.id)
      local is_current = end_claim(claim)
      count(begun and 'claims_lost' or 'claims_moved')
      if is_current then
        write_down(claim, request and cjson.decode(request), begun and 'lost' or 'moved', now, why)
        if begun and not claim.is_late then
          redis.call('HSET', key('failing'), claim.id, cjson.encode({kind = 'lost', why = why}))
          wake('lost', host)
        else
          place_again(claim.id, now, why, nil, begun)
        end
      end
    end
  end
end

-- A member of the table goes, and with it its claims.
local function remove(member, now, why)
  local service, host = split(member)
  for _, name in ipairs({'hosts', 'reports', 'capabilities', 'totals', 'draining'}) do
    redis.call('HDEL', key(name), member)
  end
  redis.call('ZREM', key('presence'), member)
  end_host(host, now, host .. ' ' .. why, function(claim) return claim.service == service end)
end
