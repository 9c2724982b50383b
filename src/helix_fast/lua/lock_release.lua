-- Give a lock back, where it is still the caller's, and tell the first waiter.
--
-- KEYS[1] lock    KEYS[2] holder's operation    KEYS[3] finished operations    KEYS[4] queue    KEYS[5] alive
-- ARGV[1] record      the lock's value as acquire returned it; '' for whatever this operation has: an acquire that gave up
-- ARGV[2] operation   id of the acquire
-- ARGV[3] keep        milliseconds for which a finished operation is remembered
-- ARGV[4] publish     PUBLISH or SPUBLISH
-- ARGV[5] channel     on which waiters hear that it is their turn
--
-- Reply: 1 released | 0 the lock is not the caller's
-- Idempotent by the operation, as long as it is remembered: a repeated release finds that it released.

local lock, holder, finished, queue, alive = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local record, operation, keep = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- 1. A repeated attempt
if redis.call('ZSCORE', finished, operation) then return 1 end

-- 2. Compare and delete
local current, mine = redis.call('GET', lock), false
if record ~= '' then
  mine = current == record
  if not mine then return 0 end
else
  local by = redis.call('GET', holder)
  mine = current and by and string.sub(by, 1, #operation + 1) == operation .. ':'
  redis.call('ZREM', queue, operation)
  redis.call('ZREM', alive, operation)
end
if mine then redis.call('DEL', lock, holder) end

-- 3. Remember, so that a late attempt of the acquire does not take the lock for nobody
redis.call('ZADD', finished, string.format('%.0f', now), operation)
redis.call('ZREMRANGEBYSCORE', finished, '-inf', string.format('%.0f', now - keep))
redis.call('PEXPIRE', finished, keep)

-- 4. The next one's turn
if mine or not current then
  local head = redis.call('ZRANGE', queue, 0, 0)[1]
  while head and tonumber(redis.call('ZSCORE', alive, head) or '0') <= now do
    redis.call('ZREM', queue, head)
    redis.call('ZREM', alive, head)
    head = redis.call('ZRANGE', queue, 0, 0)[1]
  end
  if head then redis.pcall(ARGV[4], ARGV[5], head) end -- who may not publish may still release
end
return mine and 1 or 0
