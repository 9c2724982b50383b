-- Give a lock a new TTL, where it is still the caller's.
--
-- KEYS[1] lock   KEYS[2] operation: what became of the acquire; see lock_acquire.lua
-- ARGV[1] record      the lock's value as acquire returned it: owner and token are compared as a whole
-- ARGV[2] serial      number of this refresh, from 1
-- ARGV[3] ttl         milliseconds
--
-- Reply: 1 done | 0 the lock is not the caller's | 2 overtaken by a later refresh, nothing was changed
-- Repeating it after a lost reply is safe: an attempt that arrives after a later refresh does not undo that.

local record, ttl = ARGV[1], ARGV[3]
if redis.call('GET', KEYS[1]) ~= record then return 0 end
local known = redis.call('GET', KEYS[2])
local serial = known and tonumber(string.match(known, '^(%d+):')) or 0
if tonumber(ARGV[2]) < serial then return 2 end
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('SET', KEYS[2], ARGV[2] .. ':' .. record, 'PX', ttl)
return 1
