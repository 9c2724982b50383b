-- Release a lock, if it is still the caller's, and notify the first waiter.
--
-- KEYS[1] lock    KEYS[2] operation: what became of the acquire; see lock_acquire.lua    KEYS[3] queue    KEYS[4] alive
-- ARGV[1] record      the lock's value as acquire returned it; '' for any record of this operation: an acquire that gave up
-- ARGV[2] operation   id of the acquire
-- ARGV[3] keep        milliseconds for which a finished operation is remembered
-- ARGV[4] publish     PUBLISH or SPUBLISH
-- ARGV[5] channel     on which a waiter is notified of its turn
--
-- Reply: 1 released | 0 the lock is not the caller's
-- Idempotent by the operation, as long as it is remembered: a repeated release finds that it released.

local lock, own, queue, alive = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local record, operation = ARGV[1], ARGV[2]

-- 1. Compare and delete. A record has a token, so that no two locks have the same one
local current, mine = redis.call('GET', lock), false
if record ~= '' then
  if current ~= record then return redis.call('GET', own) == 'over' and 1 or 0 end
  mine = true
else
  local known = redis.call('GET', own)
  if known == 'over' then return 1 end
  mine = known and current and string.sub(known, string.find(known, ':', 1, true) + 1) == current
  redis.call('ZREM', queue, operation)
  redis.call('ZREM', alive, operation)
end
if mine then redis.call('DEL', lock) end

-- 2. Remember, so that a late attempt of the acquire does not take a lock that no caller holds
redis.call('SET', own, 'over', 'PX', ARGV[3])

-- 3. The next one's turn
if mine or not current then
  local head, now = redis.call('ZRANGE', queue, 0, 0)[1], false
  if head then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  while head and tonumber(redis.call('ZSCORE', alive, head) or '0') <= now do
    redis.call('ZREM', queue, head)
    redis.call('ZREM', alive, head)
    head = redis.call('ZRANGE', queue, 0, 0)[1]
  end
  if head then redis.pcall(ARGV[4], ARGV[5], head) end -- who may not publish may still release
end
return mine and 1 or 0
