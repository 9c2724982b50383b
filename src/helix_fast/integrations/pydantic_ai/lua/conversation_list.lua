-- Read the records of a list of conversations, the one saved last first; those that have expired leave the list.
--
-- KEYS[1] index    its name begins those of the records; see conversation_prelude
-- KEYS[2] list     ZSET: the index, or that of a scope
-- ARGV[1] offset   records to skip
-- ARGV[2] count    records at most
--
-- Reply: the records, JSON each

local base = string.sub(KEYS[1], 1, -#'index' - 1)
local offset, count, found = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
while #found < count do
  local from = offset + #found
  local names = redis.call('ZREVRANGE', KEYS[2], from, from + count - #found - 1)
  if #names == 0 then break end
  for _, name in ipairs(names) do
    local record = redis.call('HGET', base .. 'record:' .. name, 'record')
    if record then found[#found + 1] = record else redis.call('ZREM', KEYS[2], name) end
  end
end
return found
