-- End a stream, for good or for bad. The end is an entry that nothing can follow: its id is the largest term there is.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- KEYS[4] index     the shard that lists the stream; the stream's own key: it is listed already, or after this
-- ARGV[1] status    ended or failed
-- ARGV[2] value     the output as JSON, or the error
-- ARGV[3] token     fencing token in decimal, '' for none
-- ARGV[4] ttl       seconds, '0' to keep
-- ARGV[5] updated   ISO time for the reader's eye
-- ARGV[6] publish   PUBLISH or SPUBLISH
-- ARGV[7] channel   of pushes to readers
-- ARGV[8] epoch     that of the writer which ends it, '' for anybody
-- ARGV[9] fence     that the writer saw when it joined, '' for none
--
-- Reply: {'done'} | {'none'} (no such stream) | {'closed', status} (it had ended otherwise) | {'stale', token seen}
--   | {'another', epoch} | {'fenced'}: the writer's stream is this one no more, or not its own
-- Idempotent: a repeated call finds the end.

-- include stream_field
-- include token_less
-- include listing

local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local known = redis.call('HMGET', KEYS[2], 'status', 'fence', 'epoch')
if not top then return {'none'} end
local token, fence = ARGV[3], known[2]
if token ~= '' and fence and less(token, fence) then return {'stale', fence} end
if ARGV[8] ~= '' then
  if known[3] ~= ARGV[8] then return {'another', known[3] or ''} end
  if token == '' and fence and less(ARGV[9], fence) then return {'fenced'} end
end
if known[1] == ARGV[1] then return {'done'} end
if known[1] == 'ended' or known[1] == 'failed' then return {'closed', known[1]} end
local ttl = tonumber(ARGV[4])
if KEYS[4] ~= KEYS[1] then list_id(KEYS[4], ttl, string.match(KEYS[1], '{(.*)}$'), false) end
local name = ARGV[1] == 'ended' and 'output' or 'error'
local last = field(top[2], 'sequence') or '0'
redis.call('XADD', KEYS[1], '18446744073709551615-' .. last, 'sequence', last, 'event', ARGV[1], name, ARGV[2])
redis.call('HSET', KEYS[2], 'status', ARGV[1], name, ARGV[2], 'updatedAt', ARGV[5])
redis.call('HDEL', KEYS[2], 'leases', 'leaseMs', 'missed')
if token ~= '' then redis.call('HSET', KEYS[2], 'fence', token) end
redis.call('DEL', KEYS[3])
if ttl > 0 then
  redis.call('EXPIRE', KEYS[1], ttl)
  redis.call('EXPIRE', KEYS[2], ttl)
end
redis.call(ARGV[6], ARGV[7], '!')
return {'done'}
