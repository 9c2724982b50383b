-- Delete a session's usage.
--
-- KEYS[1] entries   KEYS[2] ids   KEYS[3] deleted: ZSET of calls, each with its reply, by when they were done
-- KEYS[4] totals    HASH, see usage_totals.lua
-- KEYS[5] index     absent on a cluster, where a deleted session stays listed until its time is over
-- ARGV[1] operation   id of this call; every attempt of one call has the same
-- ARGV[2] session     member of the index
-- ARGV[3] remember    milliseconds for which a call is known: longer than it may be repeated
--
-- Reply: 1 where there was something, else 0
-- Repeating it after a lost reply is safe, even if others have deleted and recorded since: it finds itself, what was
-- recorded stays, and the reply is the same.

local deleted, operation = KEYS[3], ARGV[1]
if redis.call('ZSCORE', deleted, operation .. '1') then return 1 end
if redis.call('ZSCORE', deleted, operation .. '0') then return 0 end
local there = redis.call('EXISTS', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[4])
if KEYS[5] then redis.call('ZREM', KEYS[5], ARGV[2]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', deleted, '-inf', string.format('%.0f', now - ARGV[3]))
redis.call('ZADD', deleted, string.format('%.0f', now), operation .. there)
redis.call('PEXPIRE', deleted, ARGV[3])
return there
