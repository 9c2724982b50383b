-- Put what was dumped of another thread into this one. What is here already stays, unless the other has it as well.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
-- ARGV[3] which         number of the key that the fields belong to
-- ARGV[4...]            field, value, ...
--
-- Reply: 'ok'
-- include thread_prelude
-- include thread_grouping

local which = tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  local before = which == 4 and redis.call('HGET', writes, field)
  if before and string.sub(field, 1, 1) == 'i' then
    local known = {}
    for _, task in ipairs(list_of(value)) do known[task] = true end
    for _, task in ipairs(list_of(before)) do
      if not known[task] then value = value .. as_part(task) end
    end
  elseif before then
    local task, group = group_of(before)
    local _, added = group_of(value)
    merge(group, added, function() return true end)
    value = as_group(task, group)
  end
  redis.call('HSET', KEYS[which], field, value)
  if which == 1 then redis.call('ZADD', order, 0, field) end
end
return finish('ok', true)
