-- Store writes of one task at a checkpoint, which may be stored later than they.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
-- ARGV[3] place
-- ARGV[4] task
-- ARGV[5...]            index and write of each. With an index of 0 or more the first one stays, below 0 the last one.
--
-- Reply: 'ok'
-- include thread_prelude

local place, task = ARGV[3], ARGV[4]
local field = 'g' .. as_part(place) .. task
local before = redis.call('HGET', writes, field)
local group, at = {}, {} -- index and write of each; where an index is in it
if before then
  group = list_of(before)
  table.remove(group, 1)
  for i = 1, #group, 2 do at[group[i]] = i end
else
  redis.call('HSET', writes, 'i' .. place, (redis.call('HGET', writes, 'i' .. place) or '') .. as_part(task))
end
for i = 5, #ARGV, 2 do
  local index = ARGV[i]
  if not at[index] then
    at[index] = #group + 1
    group[at[index]] = index
    group[at[index] + 1] = ARGV[i + 1]
  elseif string.sub(index, 1, 1) == '-' then
    group[at[index] + 1] = ARGV[i + 1]
  end
end
for i, each in ipairs(group) do group[i] = as_part(each) end
redis.call('HSET', writes, field, as_part(task) .. table.concat(group))
return finish('ok')
