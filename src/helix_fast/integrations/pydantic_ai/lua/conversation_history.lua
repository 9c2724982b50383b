-- Read entries from one back to the first of its history.
--
-- KEYS[1] index   its name begins those of the entries; see conversation_prelude
-- ARGV[1] id      the last entry
-- ARGV[2] count   entries at most
--
-- Reply: {id, value, id, value...}, the last entry first; an entry that is gone has the value false, and ends it

local base = string.sub(KEYS[1], 1, -#'index' - 1)
local id, found = ARGV[1], {}
while id ~= '' and #found < 2 * tonumber(ARGV[2]) do
  local value = redis.call('GET', base .. 'entry:' .. id)
  found[#found + 1] = id
  found[#found + 1] = value
  if not value then break end
  id = string.match(value, '^[^\n]*')
end
return found
