-- Included by the scripts that cut off the newest messages, after state_prelude; not a script of its own.
--
-- KEYS and ARGV: those of state_prelude. `cut` keeps so many of the oldest messages.

local function cut(keep)
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
  turn_to(target, string.format('%.0f', keep), chain)
end
