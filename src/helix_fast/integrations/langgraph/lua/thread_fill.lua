-- Put what was dumped of another thread into this one. Its own checkpoints stay.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
-- ARGV[3] which         number of the key that the fields belong to
-- ARGV[4...]            field, value, ...
--
-- Reply: 'ok'
-- include thread_prelude

local which = tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if which == 1 then redis.call('ZADD', order, 0, field) end
  if which == 4 and string.sub(field, 1, 1) == 'i' then -- the tasks of both
    local known = {}
    for _, task in ipairs(list_of(value)) do known[task] = true end
    for _, task in ipairs(list_of(redis.call('HGET', writes, field) or '')) do
      if not known[task] then value = value .. as_part(task) end
    end
  end
  redis.call('HSET', KEYS[which], field, value)
end
return finish('ok')
