-- A worker says that it takes no new work, and what it has not begun is placed elsewhere; a word for names that another
-- instance took over is not heard.
-- KEYS  the prefix of all keys
-- ARGV  now ('' = this server's clock), instance, why, then the members
-- Returns how many of them it still held.
local now = moment(ARGV[1])
local drained = 0
for i = 4, #ARGV do
  local held = redis.call('HGET', key('hosts'), ARGV[i])
  if held and cjson.decode(held).instance == ARGV[2] then
    local service, host = split(ARGV[i])
    redis.call('HSET', key('draining'), ARGV[i], ARGV[3])
    end_host(host, now, host .. ' is draining', function(claim)
      return claim.service == service and claim.state == 'placed'
    end)
    drained = drained + 1
  end
end
return drained
