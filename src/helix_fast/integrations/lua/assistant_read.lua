-- Read the chunks of a stream of assistant-stream.
--
-- KEYS[1] meta          HASH: owner, status, error, ttl
-- KEYS[2] chunks        STREAM
-- ARGV[1] start         as of XRANGE
-- ARGV[2] count         of chunks, at most
--
-- Reply: {status or 'missing', text of the error or '', entries}
-- It only reads.

local meta = redis.call('HMGET', KEYS[1], 'status', 'error')
return {meta[1] or 'missing', meta[2] or '', redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2])}
