-- Give a lock a new TTL, where it is still the caller's.
--
-- KEYS[1] lock   KEYS[2] holder's operation
-- ARGV[1] record      the lock's value as acquire returned it: owner and token are compared as a whole
-- ARGV[2] operation   id of the acquire
-- ARGV[3] serial      number of this refresh, from 1
-- ARGV[4] ttl         milliseconds
--
-- Reply: 1 done | 0 the lock is not the caller's | 2 a later refresh came first, nothing was changed
-- Repeating it after a lost reply is safe: an attempt that arrives after a later refresh does not undo that.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local by = redis.call('GET', KEYS[2])
local serial = by and tonumber(string.match(by, ':(%d+)$')) or 0
if tonumber(ARGV[3]) < serial then return 2 end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[2] .. ':' .. ARGV[3], 'PX', ARGV[4])
return 1
