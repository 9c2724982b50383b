-- List a session in the index, on a cluster, where the index lives in another slot than the session's keys.
--
-- KEYS[1] index     ZSET of sessions by expiry
-- ARGV[1] ttl       seconds, '0' to keep
-- ARGV[2] session   its member
-- ARGV[3] forever   its score where ttl is '0'
--
-- Reply: 1
-- Repeating it is safe: it writes the same again.

local index, ttl = KEYS[1], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('(%.0f', now))
local left = redis.call('PTTL', index)
redis.call('ZADD', index, ttl > 0 and string.format('%.0f', now + ttl * 1000) or ARGV[3], ARGV[2])
if ttl == 0 then
  redis.call('PERSIST', index)
elseif left == -2 or (left >= 0 and left < ttl * 1000) then
  redis.call('EXPIRE', index, ttl)
end
return 1
