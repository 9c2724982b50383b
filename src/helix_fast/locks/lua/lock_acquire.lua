-- Take a lock, or stand in its queue.
--
-- KEYS[1] lock    KEYS[2] fence    KEYS[3] operation: what became of this acquire    KEYS[4] queue    KEYS[5] alive
-- ARGV[1] operation   id of this acquire; every attempt of one call has the same
-- ARGV[2] owner       as a JSON string, quotes included
-- ARGV[3] ttl         milliseconds
-- ARGV[4] patience    milliseconds for which a waiter keeps its place without a call, '0' if the caller does not wait
-- ARGV[5] fence ttl   seconds
-- ARGV[6] publish     PUBLISH or SPUBLISH
-- ARGV[7] channel     on which a waiter is notified of its turn
--
-- Reply: {'held', record} | {'busy', milliseconds until the lock expires (-1 never, 0 it is free), place in the queue} | {'over'}
-- Idempotent by the operation: a repeated call finds its own lock. 'over': that lock was released, the attempt was late.
-- The operation's key holds '<number of its last refresh>:<record>' as long as the lock is held, then 'over' for a while.

-- include token_less

local lock, fence, own, queue, alive = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local operation, ttl, patience = ARGV[1], ARGV[3], tonumber(ARGV[4])
local found = redis.call('MGET', own, lock, fence)
local known, record, last = found[1], found[2], found[3]

-- 1. A repeated attempt
if known == 'over' then return {'over'} end
if known and record and string.sub(known, string.find(known, ':', 1, true) + 1) == record then
  if string.sub(known, 1, 2) == '0:' then -- never refreshed, so the caller still waits for this reply and counts from now
    redis.call('PEXPIRE', lock, ttl)
    redis.call('PEXPIRE', own, ttl)
  end
  return {'held', record}
end

local time = redis.call('TIME')
local micros = time[1] .. string.format('%06d', tonumber(time[2]))
local millis = string.sub(micros, 1, -4)

-- 2. Whose turn is it? Waiters that have not called for longer than their patience have lost their place.
local head = false
if not record and patience > 0 then
  head = redis.call('ZRANGE', queue, 0, 0)[1]
  while head and head ~= operation and tonumber(redis.call('ZSCORE', alive, head) or '0') <= tonumber(millis) do
    redis.call('ZREM', queue, head)
    redis.call('ZREM', alive, head)
    head = redis.call('ZRANGE', queue, 0, 0)[1]
  end
  if head and head ~= operation then redis.pcall(ARGV[6], ARGV[7], head) end
end

-- 3. Wait
if record or head and head ~= operation then
  local place = -1
  if patience > 0 then
    redis.call('ZADD', alive, string.format('%.0f', tonumber(millis) + patience), operation)
    redis.call('ZADD', queue, 'NX', micros, operation)
    redis.call('PEXPIRE', alive, patience)
    redis.call('PEXPIRE', queue, patience)
    place = redis.call('ZRANK', queue, operation)
  end
  return {'busy', record and redis.call('PTTL', lock) or 0, place}
end

-- 4. Take it, with a token above every earlier one: INCR is exact where Lua's numbers are not
local token = micros
if last and string.find(last, '^[1-9]%d*$') and not less(last, micros) and less(last, '9223372036854775807') then
  redis.call('INCR', fence)
  token = redis.call('GET', fence)
end
record = '{"owner":' .. ARGV[2] .. ',"fencingToken":' .. token .. ',"acquiredAt":' .. millis .. '}'
-- MGET returns nil for a key of another type, which must not be overwritten: GET raises the error
if not redis.call('SET', lock, record, 'NX', 'PX', ttl) then return {'held', redis.call('GET', lock)} end
redis.call('SET', fence, token, 'EX', ARGV[5])
redis.call('SET', own, '0:' .. record, 'PX', ttl)
if patience > 0 then
  redis.call('ZREM', queue, operation)
  redis.call('ZREM', alive, operation)
end
return {'held', record}
