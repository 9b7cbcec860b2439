-- What the scripts of claims and requests share; put before each of them. Its keys stand in scheduler/claims.py.
local prefix = KEYS[1]

local KNOWN = 600 -- seconds for which the id of a request that is over is known
local CARRIED = 172800 -- the same, of one that came by a message, which a broker may deliver again much later
local FORGIVEN = 600 -- seconds after which what failed on a host is forgiven; scheduler.claims has it too
local MOST_ENDED = 100000 -- attempts that wait for the history
local MOST_EVENTS = 10000 -- events in the stream
local MOST_KEYS = 10000 -- capabilities whose names are known

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
  redis.call('XADD', key('events'), 'MAXLEN', '~', MOST_EVENTS, '*', 'what', what, 'host', host)
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
  if redis.call('LLEN', key('ended')) > MOST_ENDED then
    redis.call('LPOP', key('ended'))
    count('history_dropped')
  end
end

-- Forgets a request that is over. Its id is known for a while: what recorded it may come again.
local function forget(id, task_id, now)
  local held = redis.call('HGET', key('requests'), id)
  local remembered = held and cjson.decode(held).is_carried and CARRIED or KNOWN
  redis.call('ZADD', key('over'), seconds(now + remembered), id)
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

-- Whether a newer request of the same task was recorded, as by a retry: then that one is the task's.
local function has_successor(claim)
  local open = redis.call('HGET', key('open'), claim.task_id)
  return open and open ~= claim.id
end

-- A request whose place came to nothing waits for another one; after max_attempts for which it may be to blame it fails.
local function place_again(claim, request, now, why, avoided, is_fault)
  if not request then return end
  if has_successor(claim) then return forget(claim.id, claim.task_id, now) end
  if avoided then
    local known = redis.call('HGET', key('avoided'), claim.id)
    local hosts = known and cjson.decode(known) or {}
    hosts[#hosts + 1] = avoided
    redis.call('HSET', key('avoided'), claim.id, cjson.encode(hosts))
  end
  if is_fault and redis.call('HINCRBY', key('strikes'), claim.id, 1) >= request.max_attempts then
    redis.call('HSET', key('failing'), claim.id, cjson.encode({kind = 'attempts', why = why}))
  else
    park(claim.id, request.shape, redis.call('HGET', key('orders'), claim.id), now)
    local until_when = redis.call('HGET', key('until'), claim.id)
    if until_when then redis.call('ZADD', key('timeouts'), until_when, claim.id) end
  end
  wake('again', avoided or '')
end

-- What a host ran is over there, and nobody knows how it ended: it is lost, unless it may run twice.
local function lose(claim, now, why, avoided)
  count('claims_lost')
  local held = redis.call('HGET', key('requests'), claim.id)
  if not end_claim(claim) or not held then return end
  local request = cjson.decode(held)
  write_down(claim, request, 'lost', now, why)
  if claim.is_late or has_successor(claim) then
    place_again(claim, request, now, why, avoided, true)
  else
    redis.call('HSET', key('failing'), claim.id, cjson.encode({kind = 'lost', why = why}))
    wake('lost', claim.host)
  end
end

-- What a host had not begun is placed elsewhere.
local function move(claim, now, why, outcome, avoided)
  local held = redis.call('HGET', key('requests'), claim.id)
  if not end_claim(claim) or not held then return end
  local request = cjson.decode(held)
  write_down(claim, request, outcome, now, why)
  place_again(claim, request, now, why, avoided, avoided ~= nil)
end

-- Adds to what speaks against a host; what is older is forgiven.
local function note_failure(host, now, weight)
  local number, at = string.match(redis.call('HGET', key('failures'), host) or '0 0', '^(%S+) (%S+)$')
  if now - at > FORGIVEN then number = 0 end
  redis.call('HSET', key('failures'), host, string.format('%d %.3f', number + weight, now))
end

-- A host, or one life of it, is over. is_over(claim) says which of its claims are meant.
local function end_host(host, now, why, is_over)
  local held = redis.call('HGETALL', key('claims:' .. host))
  for i = 2, #held, 2 do
    local claim = cjson.decode(held[i])
    if is_over(claim) then
      if claim.state == 'running' then
        lose(claim, now, why, nil)
      else
        count('claims_moved')
        move(claim, now, why, 'moved', nil)
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
  redis.call('HDEL', key('failures'), host)
  end_host(host, now, host .. ' ' .. why, function(claim) return claim.service == service end)
end
