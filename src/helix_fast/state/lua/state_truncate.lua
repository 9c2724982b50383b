-- Keep only the oldest messages.
--
-- KEYS[1-8], ARGV[1-3]  those of state_prelude
-- ARGV[4] keep          how many
--
-- Reply: {'ok', count, digest}
-- include state_prelude

if not version then return {'missing'} end
local keep = tonumber(ARGV[4])
if keep < tonumber(count) then
  local target = generation
  if pins[generation] then -- a checkpoint may need what is cut off
    target = new_generation()
    if keep > 0 then redis.call('COPY', log(generation), log(target), 'REPLACE') end
  end
  if keep == 0 then redis.call('UNLINK', log(target)) else redis.call('LTRIM', log(target), 0, keep - 1) end
  -- The digest of what is left. A long chain would keep the server too long: then it is unknown, and the next
  -- save_state sends all messages once.
  local chain = ''
  if keep > 2000 then
    chain = '?'
  elseif keep > 0 then
    for _, message in ipairs(redis.call('LRANGE', log(target), 0, -1)) do chain = redis.sha1hex(chain .. message) end
  end
  turn_to(target, ARGV[4], chain)
end
bump()
return finish({'ok', count, digest})
