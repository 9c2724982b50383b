-- Make a stream of assistant-stream, unless it exists.
--
-- KEYS[1] meta          HASH: owner, status, error, ttl
-- KEYS[2] chunks        STREAM
-- ARGV[1] operation     of this call
-- ARGV[2] ttl           milliseconds that it is kept after its last change
--
-- Reply: 1 if this call has made it, else 0
-- Repeating it after a lost reply is safe: it finds its operation.

local owner = redis.call('HGET', KEYS[1], 'owner')
if owner then return owner == ARGV[1] and 1 or 0 end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'status', 'streaming', 'ttl', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
