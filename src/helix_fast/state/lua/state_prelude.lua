-- Included at the head of every script that writes a session; not a script of its own.
--
-- KEYS[1] session       HASH    scalars; version, fence, generation, messageCount, messageDigest, pins, staged...
-- KEYS[2] custom        HASH    name -> JSON
-- KEYS[3] subagents     HASH    sub-agent's session -> JSON
-- KEYS[4] checkpoints   ZSET    id by ordinal
-- KEYS[5] records       HASH    checkpoint id -> header, <id>:state -> record
-- KEYS[6] KEYS[7] operations    HASH each: operation -> reply, for the even and the odd minutes
-- KEYS[8] steps         SET     steps that have staged changes
-- KEYS[9] index         ZSET    of sessions by expiry, where this call lists the session; else KEYS[1] again: on a cluster,
--                               where index_list.lua does that, or because this process has listed it lately
-- ARGV[1] operation     id of this call: a repetition of it gets the first one's reply and changes nothing
-- ARGV[2] ttl           seconds, '0' to keep
-- ARGV[3] token         fencing token in decimal, '' for none
--
-- Reply of all of them: {'missing'} no session | {'stale', token seen} | {'malformed', field} | what the script says: a word, the
-- session's version, that before this call, the time of its creation (`says`), and more.
-- The keys of message logs and staged steps are made here from KEYS[1]: only the session knows which there are. They
-- carry the same hash tag. So does the key of the token that a deleted session leaves (state_delete.lua).

local session, custom, subagents, checkpoints, records, steps = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[8]
local ttl, token = tonumber(ARGV[2]), ARGV[3]
local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = string.format('%.0f', second * 1000 + math.floor(tonumber(clock[2]) / 1000))

-- 1. A repetition, because the reply was lost
local seen = redis.call('HGET', KEYS[6], ARGV[1]) or redis.call('HGET', KEYS[7], ARGV[1])
if seen then
  local reply, life = cjson.decode(seen), redis.call('HMGET', session, 'born', 'createdAt') -- strings only, which it keeps exactly
  table.insert(reply, 3, reply[2])
  table.insert(reply, 4, life[1] or life[2] or '')
  return reply
end

-- 2. What is there
local known = redis.call('HMGET', session, 'version', 'fence', 'generation', 'messageCount', 'messageDigest', 'pins', 'staged',
  'lastGeneration', 'ttl', 'born', 'createdAt')
local version, fence, generation, count, digest = known[1], known[2], known[3], known[4], known[5]
local staged, last_generation = tonumber(known[7] or '0'), known[8]
local created, found = not version, version or '0'
-- Tells one life of a session from the next; createdAt does not, since callers may give it. Older sessions have nothing else.
local born = known[10] or known[11] or ''
if created then born = clock[1] .. string.format('%06d', tonumber(clock[2])) end
if string.match(known[9] or '', '^%d+$') then ttl = tonumber(known[9]) end -- the session's own, see state_touch.lua
if not version and redis.call('EXISTS', session) == 1 then return {'malformed', 'version'} end
if version then
  for i, name in ipairs({'version', false, 'generation', 'messageCount'}) do
    if name and not string.match(known[i] or '', '^%d+$') then return {'malformed', name} end
  end
  if fence and not string.match(fence, '^%d+$') then return {'malformed', 'fence'} end
  digest = digest or (count == '0' and '' or '?') -- '?': unknown, and no client believes that it has these messages
  if not string.match(digest, '^[%x?]*$') then return {'malformed', 'messageDigest'} end
end
if KEYS[9] ~= session then redis.call('ZCARD', KEYS[9]) end -- a key of another type fails here, before a write
local pins = {} -- generation -> number of checkpoints that refer to its log
for number, refs in string.gmatch(known[6] or '', '(%d+):(%d+)') do pins[number] = tonumber(refs) end

-- 3. Fencing comes first: a stale holder learns that it is one. A larger token counts from when it is seen. A deleted
-- session's token stays for a while, so that a stale holder cannot bring it back.
-- include token_less
-- include listing
if not version then fence = redis.call('GET', session .. ':fence') end
if token ~= '' then
  if fence and less(token, fence) then return {'stale', fence} end
  if version and token ~= fence then redis.call('HSET', session, 'fence', token) end
  fence = token
end

local function log(number) return session .. ':messages:' .. number end

local function log_lost() -- whether the conversation is not as long as it should be
  return redis.call('LLEN', log(generation)) ~= tonumber(count)
end

local function push(command, key, from, to) -- in portions: Lua passes no more than some thousand arguments
  for i = from, to, 1000 do
    redis.call(command, key, unpack(ARGV, i, math.min(i + 999, to)))
  end
end

local function set(key, pairs_) -- a flat table of names and values
  for i = 1, #pairs_, 1000 do
    redis.call('HSET', key, unpack(pairs_, i, math.min(i + 999, #pairs_)))
  end
end

local function pin(number, change) -- a checkpoint more or less refers to this generation
  local refs = (pins[number] or 0) + change
  pins[number] = refs > 0 and refs or nil
  local all = {}
  for each, its in pairs(pins) do all[#all + 1] = each .. ':' .. its end
  redis.call('HSET', session, 'pins', table.concat(all, ','))
  if refs <= 0 and number ~= generation then redis.call('UNLINK', log(number)) end
end

local function turn_to(number, messages, chain) -- the conversation goes on in this generation
  local before = generation
  generation, count, digest = number, messages, chain
  redis.call('HSET', session, 'generation', number, 'messageCount', messages, 'messageDigest', chain)
  if before and before ~= number and not pins[before] then redis.call('UNLINK', log(before)) end
end

local function new_generation()
  last_generation = string.format('%.0f', tonumber(last_generation or generation or '0') + 1)
  redis.call('HSET', session, 'lastGeneration', last_generation)
  return last_generation
end

local function says(word, ...)
  return {word, version or '0', found, born, ...}
end

local function words(list, step) -- whether it is a list of strings, in groups of so many
  if type(list) ~= 'table' or #list % step ~= 0 then return false end
  for key, word in pairs(list) do
    if type(key) ~= 'number' or type(word) ~= 'string' then return false end
  end
  return true
end

local function bump(...) -- the next version, with more fields of the session
  version = string.format('%.0f', tonumber(version or '0') + 1)
  redis.call('HSET', session, 'version', version, 'updatedAt', now, ...)
end

-- The last step of every script: remember the reply for a minute or two, renew all keys together, list the session.
local function finish(reply)
  local minute = math.floor(second / 60)
  local operations = KEYS[6 + minute % 2]
  for _ = 3, 4 do table.remove(reply, 3) end -- what a repetition need not be told takes no memory
  redis.call('HSET', operations, ARGV[1], cjson.encode(reply))
  table.insert(reply, 3, found)
  table.insert(reply, 4, born)
  redis.call('EXPIREAT', operations, (minute + 2) * 60) -- just when its turn comes again
  local keys = {session, custom, subagents, checkpoints, records, steps}
  if generation then keys[#keys + 1] = log(generation) end
  for number in pairs(pins) do
    if number ~= generation then keys[#keys + 1] = log(number) end
  end
  if staged > 0 then
    for _, step in ipairs(redis.call('SMEMBERS', steps)) do keys[#keys + 1] = session .. ':staging:' .. step end
  end
  if ttl > 0 then
    for _, key in ipairs(keys) do redis.call('EXPIRE', key, ttl) end
  elseif redis.call('TTL', session) >= 0 then -- written by a store with a TTL before
    for _, key in ipairs(keys) do redis.call('PERSIST', key) end
  end
  if KEYS[9] ~= session then list_id(KEYS[9], ttl, string.match(session, '{(.*)}$'), created) end
  return reply
end
