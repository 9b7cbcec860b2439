-- Entries of the history that are written down elsewhere go, if whoever wrote them still has the turn.
-- KEYS  the prefix of all keys
-- ARGV  whose turn it should be, how many entries
-- Returns 1, or 0 where it is another's turn.
if redis.call('GET', key('historian')) ~= ARGV[1] then return 0 end
redis.call('LTRIM', key('ended'), ARGV[2], -1)
return 1
