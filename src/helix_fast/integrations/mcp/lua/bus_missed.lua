-- What was published on a subscription bus of MCP after an event.
--
-- KEYS[1] last          STRING: the number of the last event
-- KEYS[2] events        ZSET: each event -> the number of its last occurrence
-- ARGV[1] after         number of an event; empty: none is asked for, but the last number
--
-- Reply: {number of the last event, {event, its number, ...}}
-- It only reads.

local last = redis.call('GET', KEYS[1]) or '0'
if ARGV[1] == '' then return {last, {}} end
return {last, redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES')}
