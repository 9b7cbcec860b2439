-- What was not begun in time is placed elsewhere, what was to wait for its time waits for a place, and where tasks of
-- yesterday ran is forgotten.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), how many of each to look at
-- Returns how many claims ended.
local now = moment(ARGV[1])
local ended = 0
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', key('deadlines'), '-inf', seconds(now), 'LIMIT', 0, ARGV[2])) do
  local host, field = string.match(entry, '^(%S+) (%S+)$')
  local held = host and redis.call('HGET', key('claims:' .. host), field)
  redis.call('ZREM', key('deadlines'), entry)
  if held then
    note_failure(host, now, 3)
    count('claims_missed')
    ended = ended + 1
    move(cjson.decode(held), now, host .. ' did not begin it in time', 'missed', host)
  elseif host then -- somebody took its claim away, without which the host can't begin it
    local id, attempt = string.match(field, '^(.+):(%d+)$')
    local document = id and redis.call('HGET', key('requests'), id)
    if document and redis.call('HGET', key('placed'), id) == host
      and redis.call('HGET', key('attempts'), id) == attempt then
      local request = cjson.decode(document)
      redis.call('HDEL', key('placed'), id)
      place_again({id = id, task_id = request.task_id}, request, now, host .. ' has no claim for it', nil, false)
    end
  end
end
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', key('delayed'), '-inf', seconds(now), 'LIMIT', 0, ARGV[2])) do
  local unit, shape = string.match(entry, '^(%S+) (%S+)$')
  redis.call('ZREM', key('delayed'), entry)
  local order = unit and redis.call('HGET', key('orders'), unit)
  if order then
    park(unit, shape, order, now)
    wake('due', '')
  end
end
redis.call('ZREMRANGEBYSCORE', key('over'), '-inf', now)
redis.call('ZREMRANGEBYSCORE', key('released'), '-inf', now - 3600)
redis.call('ZREMRANGEBYSCORE', key('followed'), '-inf', now - 86400)
for _, name in ipairs({'ran', 'sticky'}) do
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', key(name .. '_at'), '-inf', now - 86400, 'LIMIT', 0, ARGV[2])) do
    redis.call('ZREM', key(name .. '_at'), old)
    redis.call('HDEL', key(name), old)
  end
end
return ended
