-- An operator gives a host's service back to placement.
-- KEYS  the prefix of all keys
-- ARGV  the member "<service>/<host>"
-- Returns 1, or 0 where it was not disabled.
local was_disabled = redis.call('HDEL', key('disabled'), ARGV[1])
local _, host = split(ARGV[1])
if was_disabled == 1 then wake('enabled', host) end
return was_disabled
