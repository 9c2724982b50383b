-- Store a conversation's record and new entries, in place of the record with another revision.
--
-- KEYS[1-3]             those of conversation_prelude
-- ARGV[1] conversation  its id
-- ARGV[2] expected      revision that must be stored; '' none
-- ARGV[3] revision      of the record
-- ARGV[4] record        JSON
-- ARGV[5] scope         '' or 's' and its name
-- ARGV[6] refs          ids of the head and the branches
-- ARGV[7] head          id, or ''
-- ARGV[8] saved         score of the index
-- ARGV[9] ttl           seconds, '0' to keep
-- ARGV[10] remember     milliseconds for which a call is known: longer than it may be repeated
-- ARGV[11...]           id, id of the entry before it or '', kind and JSON of each new entry
--
-- Reply: 'ok' | 'conflict': another revision is stored, or an entry that this builds on is gone
-- Repeating it after a lost reply is safe, whatever others have saved since: it finds its operation.
-- include conversation_prelude

if redis.call('EXISTS', KEYS[3]) == 1 then return redis.call('GET', KEYS[3]) end
local ttl = tonumber(ARGV[9])

-- 1. Is it still what the writer has seen?
local stored = redis.call('HMGET', KEYS[2], 'revision', 'refs', 'scope')
if (stored[1] or '') ~= ARGV[2] then return 'conflict' end
local new = {}
for i = 11, #ARGV, 4 do new[ARGV[i]] = true end
for _, id in ipairs({ARGV[7], ARGV[12] or ''}) do
  if id ~= '' and not new[id] and not exists(id) then return 'conflict' end
end

-- 2. Entries, each after the one before it
for i = 11, #ARGV, 4 do
  local id, parent = ARGV[i], ARGV[i + 1]
  if not exists(id) then
    if parent ~= '' then hold(parent) end
    fresh[id] = true
  end
  redis.call('SET', entry(id), parent .. '\n' .. ARGV[i + 2] .. '\n' .. ARGV[i + 3])
end

-- 3. What the record refers to, before what it referred to
local refs = {}
for id in string.gmatch(ARGV[6], '([^\n]*)\n') do
  if exists(id) then
    hold(id)
    refs[#refs + 1] = id .. '\n'
  end
end
release_all(stored[2] or '')

-- 4. The record, and its places in the lists
local kept = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('PTTL', KEYS[1]) == -1 -- some have no TTL
redis.call('HSET', KEYS[2], 'revision', ARGV[3], 'record', ARGV[4], 'scope', ARGV[5], 'refs', table.concat(refs))
if stored[3] ~= ARGV[5] then unlist(stored[3] or '', ARGV[1]) end
local lists = {KEYS[1]}
if ARGV[5] ~= '' then lists[2] = base .. 'scope:' .. string.sub(ARGV[5], 2) end
for _, list in ipairs(lists) do
  redis.call('ZADD', list, ARGV[8], ARGV[1])
  if ttl == 0 then redis.call('PERSIST', list) elseif not kept then redis.call('EXPIRE', list, ttl) end
end

-- 5. All that it refers to lives as long as it does
if ttl == 0 then redis.call('PERSIST', KEYS[2]) else redis.call('EXPIRE', KEYS[2], ttl) end
local seen = {}
for _, ref in ipairs(refs) do
  local id = string.sub(ref, 1, -2)
  while ttl > 0 and id ~= '' and not seen[id] do
    seen[id] = true
    redis.call('EXPIRE', entry(id), ttl)
    redis.call('EXPIRE', base .. 'refs:' .. id, ttl)
    id = string.match(redis.call('GET', entry(id)) or '', '^[^\n]*')
  end
end
redis.call('SET', KEYS[3], 'ok', 'PX', ARGV[10])
return 'ok'
