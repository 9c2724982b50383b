-- Delete a session's usage.
--
-- KEYS[1] entries   KEYS[2] ids   KEYS[3] deleted: the call that did it last
-- KEYS[4] index     absent on a cluster, where a deleted session stays listed until its time is over
-- ARGV[1] operation   id of this call; every attempt of one call has the same
-- ARGV[2] session     member of the index
-- ARGV[3] remember    milliseconds for which the call is known: longer than it may be repeated
--
-- Reply: 1 where there was something, else 0
-- Repeating it after a lost reply is safe: what was recorded since then stays, and the reply is the same.

local before = redis.call('GET', KEYS[3])
if before == ARGV[1] .. '1' then return 1 end
if before == ARGV[1] .. '0' then return 0 end
local there = redis.call('EXISTS', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[2])
if KEYS[4] then redis.call('ZREM', KEYS[4], ARGV[2]) end
redis.call('SET', KEYS[3], ARGV[1] .. there, 'PX', ARGV[3])
return there
