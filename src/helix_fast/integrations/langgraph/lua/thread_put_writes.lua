-- Store writes of one task at a checkpoint, which may be stored later than they.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
-- ARGV[3] place
-- ARGV[4] task
-- ARGV[5...]            index and write of each. With an index of 0 or more the first one stays, below 0 the last one.
--
-- Reply: 'ok'
-- include thread_prelude
-- include thread_grouping

local place, task = ARGV[3], ARGV[4]
local field, group = 'g' .. as_part(place) .. task, {}
for i = 5, #ARGV do group[i - 4] = ARGV[i] end
local before, tasks = unpack(redis.call('HMGET', writes, field, 'i' .. place))
if before then
  local _, stored = group_of(before)
  merge(stored, group, function(index) return string.sub(index, 1, 1) == '-' end)
  redis.call('HSET', writes, field, as_group(task, stored))
else
  redis.call('HSET', writes, field, as_group(task, group), 'i' .. place, (tasks or '') .. as_part(task))
end
return finish('ok')
