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
local field, group, added = 'g' .. as_part(place) .. task, {}, {}
for i = 5, #ARGV do added[i - 4] = ARGV[i] end
local before = redis.call('HGET', writes, field)
if before then
  local _, stored = group_of(before)
  group = stored
else
  redis.call('HSET', writes, 'i' .. place, (redis.call('HGET', writes, 'i' .. place) or '') .. as_part(task))
end
merge(group, added, function(index) return string.sub(index, 1, 1) == '-' end)
redis.call('HSET', writes, field, as_group(task, group))
return finish('ok')
