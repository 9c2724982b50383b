-- Point a chat to its next run, unless another request has done so.
--
-- KEYS[1] pointer
-- ARGV[1] expected    the value that it must have; empty: none
-- ARGV[2] new         the value that it gets; empty: it is deleted
-- ARGV[3] ttl         milliseconds; 0: none
--
-- Reply: the value that it has now, empty where it has none
-- Repeating it after a lost reply is safe: it finds the new value, which no other request writes.

local new, ttl = ARGV[2], ARGV[3]
local found = redis.call('GET', KEYS[1]) or ''
if found == ARGV[1] then
  if new == '' then
    redis.call('DEL', KEYS[1])
  elseif ttl == '0' then
    redis.call('SET', KEYS[1], new)
  else
    redis.call('SET', KEYS[1], new, 'PX', ttl)
  end
  return new
end
return found
