-- Pause or resume a stream, or ask its writers to stop.
--
-- KEYS[1] stream   KEYS[2] meta
-- ARGV[1] what      pause, resume or stop
-- ARGV[2] reason    of a stop
-- ARGV[3] updated   ISO time for the reader's eye
-- ARGV[4] control   channel on which the writers' processes listen
-- ARGV[5] message   what they are told
--
-- Reply: {'done'} | {'none'} (no such stream) | {'closed', status}. Idempotent.

if redis.call('EXISTS', KEYS[1]) == 0 then return {'none'} end
local status = redis.call('HGET', KEYS[2], 'status')
if status == 'ended' or status == 'failed' then return {'closed', status} end
if ARGV[1] == 'stop' then
  redis.call('HSET', KEYS[2], 'stop', '1', 'stopReason', ARGV[2], 'updatedAt', ARGV[3])
else
  redis.call('HSET', KEYS[2], 'status', ARGV[1] == 'pause' and 'paused' or 'active', 'updatedAt', ARGV[3])
end
-- a stream that plain XADD made has no meta hash before this: it must not outlive the stream
local left = redis.call('PTTL', KEYS[1])
if left > 0 and redis.call('PTTL', KEYS[2]) == -1 then redis.call('PEXPIRE', KEYS[2], left) end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return {'done'}
