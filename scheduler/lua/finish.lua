-- The result of a request that failed is written: it is forgotten.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), id, outcome, why
-- Returns 1, or 0 where another scheduler was first.
local now = moment(ARGV[1])
if redis.call('HDEL', key('failing'), ARGV[2]) == 0 then return 0 end
local held = redis.call('HGET', key('requests'), ARGV[2])
if held then
  local request = cjson.decode(held)
  request.task_id = request.task_id or ARGV[2] -- of a record that nobody can read
  if ARGV[3] ~= 'lost' then -- which its host's end has written down already
    write_down({id = ARGV[2], attempt = 0, task_id = request.task_id, task = request.task, service = request.service},
      request, ARGV[3], now, ARGV[4])
  end
  forget(ARGV[2], request.task_id, now)
end
return 1
