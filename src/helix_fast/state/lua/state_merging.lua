-- Included by the scripts that merge changes into the custom state, after state_prelude; not a script of its own.
--
-- KEYS and ARGV: those of state_prelude.
--
-- A change is a kind, a name and JSON: 'set' and 'replace' put the value, 'extend' joins two arrays, as text,
-- 'delete' removes. Reply: `warnings` holds four strings each: kind, name, and the two tool calls concerned or ''.

local warnings, written = {}, {}

local function warn(...)
  for _, word in ipairs({...}) do warnings[#warnings + 1] = word end
end

local function merge(kind, name, value, source)
  local before = written[name]
  if before and before[1] ~= source and kind ~= 'extend' and before[2] ~= value then warn('conflict', name, before[1], source) end
  written[name] = {source, kind == 'extend' and 'extend' or value}
  if kind == 'delete' then
    redis.call('HDEL', custom, name)
    return
  end
  if kind == 'extend' then
    local stored = redis.call('HGET', custom, name)
    if stored then
      local inner = string.match(stored, '^%s*%[(.*)%]%s*$')
      if not inner then
        warn('replaced', name, '', source)
      elseif value == '[]' then
        return
      elseif string.find(inner, '%S') then
        value = '[' .. inner .. ',' .. string.sub(value, 2)
      end
    end
  end
  redis.call('HSET', custom, name, value)
end

local function with_warnings(reply)
  for _, word in ipairs(warnings) do reply[#reply + 1] = word end
  return reply
end
