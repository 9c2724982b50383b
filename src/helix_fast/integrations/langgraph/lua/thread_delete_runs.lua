-- Delete the checkpoints of a thread that some runs have made, with their writes, and the blobs that only they had.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
-- ARGV[3...]            the runs
--
-- Reply: 'ok' | 'none': there are no such checkpoints
-- include thread_prelude
-- include thread_dropping

local runs, found = {}, false
for i = 3, #ARGV do runs[ARGV[i]] = true end
for _, place in ipairs(all_places()) do
  local _, run = record_of(redis.call('HGET', checkpoints, place))
  if run ~= '' and runs[run] then
    drop(place)
    found = true
  end
end
if not found then return 'none' end
sweep()
return finish('ok')
