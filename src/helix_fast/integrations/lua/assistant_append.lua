-- Append a chunk to a stream of assistant-stream, or end it.
--
-- KEYS[1] meta          HASH: owner, status, error, ttl
-- KEYS[2] chunks        STREAM
-- KEYS[3] operation     STRING with TTL: this call was made
-- ARGV[1] status        'streaming' to append, 'done' or 'error' to end
-- ARGV[2] bytes         of the chunk, or the text of the error
-- ARGV[3] remembered    milliseconds that the operation is kept
-- ARGV[4] publish       PUBLISH or SPUBLISH
-- ARGV[5] channel       where readers wait
--
-- Reply: 'ok', 'missing', or 'finalized' if it has ended before
-- Repeating it after a lost reply is safe: it finds the operation.

if redis.call('EXISTS', KEYS[3]) == 1 then return 'ok' end
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if status ~= 'streaming' then return 'finalized' end
if ARGV[1] == 'streaming' then
  redis.call('XADD', KEYS[2], '*', 'c', ARGV[2])
else
  redis.call('HSET', KEYS[1], 'status', ARGV[1], 'error', ARGV[2])
end
local ttl = redis.call('HGET', KEYS[1], 'ttl')
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('SET', KEYS[3], '1', 'PX', ARGV[3])
redis.call(ARGV[4], ARGV[5], '')
return 'ok'
