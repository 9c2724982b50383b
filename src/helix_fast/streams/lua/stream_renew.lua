-- Renew a writer's lease and the TTLs, and tell it whether it was asked to stop.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- KEYS[4] index     the shard that lists the stream; the stream's own key: it is listed already, or after this
-- ARGV[1] producer   name of the process among the holders of the lease
-- ARGV[2] term     the writer's term: one of an older term renews nothing
-- ARGV[3] lease    milliseconds, '0' for none
-- ARGV[4] ttl      seconds, '0' to keep
--
-- Reply: {stop, reason, status}, or false where the stream is gone, over, or of another term.

-- include listing

local known = redis.call('HMGET', KEYS[2], 'term', 'status', 'leases', 'stop', 'stopReason', 'missed')
if known[1] ~= ARGV[2] or known[2] == 'ended' or known[2] == 'failed' or redis.call('EXISTS', KEYS[1]) == 0 then return false end
local lease, ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
if lease > 0 then
  local leases = known[3] or ''
  if not string.find(leases, ARGV[1], 1, true) then redis.call('HSET', KEYS[2], 'leases', leases .. ARGV[1] .. ',') end
  if redis.call('PTTL', KEYS[3]) < lease then redis.call('SET', KEYS[3], ARGV[1], 'PX', lease) end
  if known[6] then redis.call('HDEL', KEYS[2], 'missed') end
end
if KEYS[4] ~= KEYS[1] then list_id(KEYS[4], ttl, string.match(KEYS[1], '{(.*)}$'), false) end
if ttl > 0 then
  redis.call('EXPIRE', KEYS[1], ttl)
  redis.call('EXPIRE', KEYS[2], ttl)
end
return {known[4] or '0', known[5] or '', known[2]}
