-- A page of checkpoints, the newest first, with their blobs and writes. A blob of several checkpoints comes once.
--
-- KEYS[1] checkpoints   KEYS[2] order   KEYS[3] blobs   KEYS[4] writes: those of thread_prelude
-- ARGV[1] namespace     as a part; '' for all
-- ARGV[2] id            the only one; '' for all
-- ARGV[3] before        only smaller ids; '' for all
-- ARGV[4] after         of those with the id of ARGV[3], only in namespaces behind this one, a part; '' for none
-- ARGV[5] count         at most
-- ARGV[6] bytes         a page ends behind the checkpoint that reaches it
-- ARGV[7] ttl           seconds that the thread lives from now on, '' to leave it
--
-- Reply: {{place, record, {writes of each task}} of each, {name, value, ... of the blobs}, 1 if there may be more}
-- Ids are compared as bytes; equal ids are in the order of their namespaces.
-- include thread_parts
-- include thread_renewing

local function less(a, b) -- by bytes: Lua's own order of strings is that of the server's locale
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local namespace, only, before, after, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

-- 1. The newest places of each namespace. All of them are found by steps from one to the next
local found = {}
local function take(space)
  local high = '(' .. space .. '\255'
  if before ~= '' then high = (after ~= '' and less(after, space) and '[' or '(') .. space .. before end
  local low = '[' .. space
  if only ~= '' then
    if before ~= '' and (less(before, only) or only == before and string.sub(high, 1, 1) == '(') then return end
    low, high = '[' .. space .. only, '[' .. space .. only
  end
  for _, place in ipairs(redis.call('ZRANGE', KEYS[2], high, low, 'BYLEX', 'REV', 'LIMIT', 0, count)) do
    found[#found + 1] = {string.sub(place, #space + 1), space, place}
  end
end
if namespace ~= '' then
  take(namespace)
else
  local low = '-'
  while true do
    local place = redis.call('ZRANGE', KEYS[2], low, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
    if not place then break end
    local space = namespace_of(place)
    take(space)
    low = '(' .. space .. '\255'
  end
  table.sort(found, function(a, b)
    if a[1] ~= b[1] then return less(b[1], a[1]) end
    return less(a[2], b[2])
  end)
end

-- 2. What belongs to them
local rows, named, sent, bytes, more = {}, {}, {}, 0, #found >= count
for i = 1, math.min(count, #found) do
  if bytes >= tonumber(ARGV[6]) then
    more = true
    break
  end
  local space, place = found[i][2], found[i][3]
  local record = redis.call('HGET', KEYS[1], place)
  if record then
    local _, _, names = record_of(record)
    local fresh = {}
    for _, name in ipairs(list_of(names)) do
      name = space .. name
      if not sent[name] then
        sent[name] = true
        fresh[#fresh + 1] = name
      end
    end
    for j, value in ipairs(values(KEYS[3], fresh)) do
      if value then
        named[#named + 1] = fresh[j]
        named[#named + 1] = value
        bytes = bytes + #value
      end
    end
    local groups = writes_of(KEYS[4], place)
    for _, group in ipairs(groups) do bytes = bytes + #group end
    bytes = bytes + #record
    rows[#rows + 1] = {place, record, groups}
  end
end
renew(ARGV[7])
return {rows, named, more and 1 or 0}
