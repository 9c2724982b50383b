-- Included at the head of every script that changes conversations; not a script of its own.
--
-- KEYS[1] index       ZSET of conversations by when they were saved
-- KEYS[2] record      HASH: revision; record (JSON); scope ('' or 's' and its name); refs (ids of head and branches)
-- KEYS[3] operation   STRING with TTL: the reply to this call, for a repetition of it
--
-- The names of all other keys begin as that of the index, in the same slot:
--   entry:<id>      STRING: id of the entry before it, a line break, kind, a line break, JSON of the message
--   refs:<id>       STRING: references to an entry beyond the first. Each record refers to its head and branches, and
--                   each entry to the one before it. What nothing refers to is deleted
--   scope:<name>    ZSET as the index
-- Ids in a list have a line break behind them.

local base = string.sub(KEYS[1], 1, -#'index' - 1)
local fresh = {} -- new entries that nothing refers to yet

local function entry(id) return base .. 'entry:' .. id end

local function exists(id) return fresh[id] or redis.call('EXISTS', entry(id)) == 1 end

local function hold(id)
  if fresh[id] then fresh[id] = nil else redis.call('INCR', base .. 'refs:' .. id) end
end

local function release(id) -- with its last reference an entry goes, and with it its own one
  while id ~= '' do
    local refs = redis.call('GET', base .. 'refs:' .. id)
    if refs then
      if refs == '1' then redis.call('DEL', base .. 'refs:' .. id) else redis.call('DECR', base .. 'refs:' .. id) end
      return
    end
    local data = redis.call('GET', entry(id))
    if not data then return end
    redis.call('DEL', entry(id))
    id = string.match(data, '^[^\n]*')
  end
end

local function release_all(ids)
  for id in string.gmatch(ids, '([^\n]*)\n') do release(id) end
end

local function unlist(scope, conversation)
  if scope ~= '' then redis.call('ZREM', base .. 'scope:' .. string.sub(scope, 2), conversation) end
end
