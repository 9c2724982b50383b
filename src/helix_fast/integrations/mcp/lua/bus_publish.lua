-- Publish an event on a subscription bus of MCP.
--
-- KEYS[1] last          STRING with TTL: the number of the last event
-- KEYS[2] events        ZSET: each event -> the number of its last occurrence
-- ARGV[1] event
-- ARGV[2] max_events    different events that are kept for replicas that were disconnected
-- ARGV[3] ttl           milliseconds that they are kept after the last event
-- ARGV[4] publish       PUBLISH or SPUBLISH
-- ARGV[5] channel
--
-- Reply: the number of the event
-- Repeating it is safe: subscribers are told twice that something has changed.

-- Microseconds, so that numbers go on rising after all was lost or expired.
local time = redis.call('TIME')
local number = math.max((redis.call('GET', KEYS[1]) or 0) + 1, time[1] * 1000000 + time[2])
number = string.format('%.0f', number)
redis.call('SET', KEYS[1], number, 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], number, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call(ARGV[4], ARGV[5], number .. ' ' .. ARGV[1])
return number
