-- Add references to sub-agents, or put one in place of what was read.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] mode          add or swap
-- ARGV[5...]            add: sub-agent's session, JSON, ...; swap: sub-agent's session, stored bytes, JSON
--
-- Reply: {'ok', ...} | {'none', ...} no such reference | {'differs', ..., stored bytes}
-- include state_prelude

if not version then return {'missing'} end
if ARGV[4] == 'swap' then
  local stored = redis.call('HGET', subagents, ARGV[5])
  if not stored then return says('none') end
  if stored ~= ARGV[6] then return says('differs', stored) end
  redis.call('HSET', subagents, ARGV[5], ARGV[7])
else
  local length = redis.call('HLEN', subagents) -- references are never removed one by one, so this is a new ordinal
  for i = 5, #ARGV, 2 do
    local ordinal = string.match(redis.call('HGET', subagents, ARGV[i]) or '', '^{"ordinal":(%d+)')
    if not ordinal then
      ordinal = length
      length = length + 1
    end
    redis.call('HSET', subagents, ARGV[i], '{"ordinal":' .. ordinal .. ',' .. string.sub(ARGV[i + 1], 2))
  end
end
bump()
return finish(says('ok'))
