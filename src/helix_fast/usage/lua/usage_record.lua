-- Record entries of one session, each id once, all of the call or none.
--
-- KEYS[1] entries   LIST of JSON
-- KEYS[2] ids       HASH: entry id -> operation that recorded it; '' -> nonce of the list
-- KEYS[3] index     ZSET of sessions by expiry; absent on a cluster, where usage_index.lua is sent before this
-- ARGV[1] operation   id of this call; every attempt of one call has the same
-- ARGV[2] ttl         seconds, '0' to keep
-- ARGV[3] nonce       for the list, where it is a new one
-- ARGV[4] session     member of the index
-- ARGV[5] forever     its score where ttl is '0'
-- ARGV[6...]          id, JSON of each entry
--
-- Reply: how many of the entries this call has recorded
-- Repeating it after a lost reply is safe: the ids are there with this operation, so nothing is added and the reply is the same.

-- include index_listing

local entries, ids, index = KEYS[1], KEYS[2], KEYS[3]
local operation, ttl = ARGV[1], tonumber(ARGV[2])
local BATCH = 2000 -- arguments that unpack() may push at once

-- 1. Read first: a key of another type fails here, before anything is written
local length = redis.call('LLEN', entries)
local nonce = redis.call('HGET', ids, '')
if index then redis.call('ZCARD', index) end
if length == 0 and redis.call('EXISTS', ids) == 1 then
  -- the list was deleted by someone who does not know the ids, or evicted: they belong to entries that are gone.
  -- So do stored totals, which have a TTL and, with another nonce, are not believed any more
  redis.call('DEL', ids)
  nonce = false
end

-- 2. Which ids are new
local count, seen, fresh, marks, recorded = #ARGV, {}, {}, {}, 0
for first = 6, count, 2 * BATCH do
  local names = {}
  for i = first, math.min(first + 2 * BATCH - 2, count), 2 do names[#names + 1] = ARGV[i] end
  local known = redis.call('HMGET', ids, unpack(names))
  for i, name in ipairs(names) do
    if not seen[name] then
      seen[name] = true
      if not known[i] then
        marks[#marks + 1] = name
        marks[#marks + 1] = operation
        fresh[#fresh + 1] = ARGV[first + 2 * i - 1]
        recorded = recorded + 1
      elseif known[i] == operation then
        recorded = recorded + 1
      end
    end
  end
end

-- 3. Write them, in order
if not nonce then redis.call('HSET', ids, '', ARGV[3]) end
for first = 1, #fresh, BATCH do
  redis.call('RPUSH', entries, unpack(fresh, first, math.min(first + BATCH - 1, #fresh)))
end
for first = 1, #marks, BATCH do
  redis.call('HSET', ids, unpack(marks, first, math.min(first + BATCH - 1, #marks)))
end

-- 4. Both keys live from the last entry on
if ttl > 0 then
  redis.call('EXPIRE', entries, ttl)
  redis.call('EXPIRE', ids, ttl)
else
  redis.call('PERSIST', entries)
  redis.call('PERSIST', ids)
end

-- 5. The index
if index then list_session(index, ttl, ARGV[4], ARGV[5]) end
return recorded
