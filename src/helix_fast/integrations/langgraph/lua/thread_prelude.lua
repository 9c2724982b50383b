-- Included at the head of every script that changes a thread; not a script of its own.
--
-- KEYS[1] checkpoints   HASH    place -> record; see thread_parts
-- KEYS[2] order         ZSET    the places; all scores are 0, so they are in order of namespace and id
-- KEYS[3] blobs         HASH    name -> value
-- KEYS[4] writes        HASH    tasks, and their writes
-- KEYS[5] KEYS[6] operations    HASH each: operation -> '', for the even and the odd minutes
-- KEYS[7] index         ZSET    of threads by expiry, where this call lists the thread, or takes it out; else KEYS[1]
-- ARGV[1] operation     id of this call: a repetition of it changes nothing
-- ARGV[2] ttl           seconds, '0' to keep
--
-- Reply of all of them: 'again' to a repetition | what the script says.
-- include thread_parts
-- include listing

local checkpoints, order, blobs, writes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- 1. A repetition, because the reply was lost
if redis.call('HGET', KEYS[5], ARGV[1]) or redis.call('HGET', KEYS[6], ARGV[1]) then return 'again' end

-- The last step of every script: remember the operation for a minute or two, renew all keys together, list the thread.
-- created: whether the script may have made the first of the keys that expire
local function finish(reply, created)
  local minute = math.floor(redis.call('TIME')[1] / 60)
  local operations, ttl = KEYS[5 + minute % 2], tonumber(ARGV[2])
  redis.call('HSET', operations, ARGV[1], '')
  if redis.call('TTL', operations) < 60 then
    redis.call('EXPIREAT', operations, (minute + 2) * 60) -- just when its turn comes again
  end
  if ttl > 0 then
    for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ttl) end
  -- The keys expire together, and one that was made just now does not: these two tell whether the others do
  elseif redis.call('PERSIST', checkpoints) == 1 or redis.call('PERSIST', writes) == 1 or created then
    for i = 1, 4 do redis.call('PERSIST', KEYS[i]) end
  end
  if KEYS[7] ~= checkpoints then
    local thread = string.match(checkpoints, '{(.*)}$')
    if redis.call('EXISTS', order) == 1 then
      list_id(KEYS[7], ttl, thread, false)
    else
      redis.call('ZREM', KEYS[7], thread)
    end
  end
  return reply
end
