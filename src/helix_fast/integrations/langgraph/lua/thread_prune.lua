-- Keep the newest checkpoint of each namespace, and what its delta channels need: the way back to their last blob.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
--
-- Reply: 'ok' | 'none': there was nothing to be deleted
-- include thread_prelude
-- include thread_dropping

-- 1. What to keep. Places are in order of namespace and id, so the newest one of a namespace is the last
local places, keep = all_places(), {}
for i, place in ipairs(places) do
  local space = namespace_of(place)
  if i == #places or namespace_of(places[i + 1]) ~= space then
    keep[place] = true
    local parent, _, _, deltas = record_of(redis.call('HGET', checkpoints, place))
    local needed = list_of(deltas)
    while #needed > 0 and parent ~= '' and not keep[space .. parent] do
      local record = redis.call('HGET', checkpoints, space .. parent)
      if not record then break end
      keep[space .. parent] = true
      local names, versions = nil, {}
      parent, _, names = record_of(record)
      for _, name in ipairs(list_of(names)) do versions[part(name, 1)] = name end
      for j = #needed, 1, -1 do
        local name = versions[needed[j]]
        if name and redis.call('HGET', blobs, space .. name) then table.remove(needed, j) end
      end
    end
  end
end

-- 2. Everything else
local found = false
for _, place in ipairs(places) do
  if not keep[place] then
    drop(place)
    found = true
  end
end
if not found then return 'none' end
sweep()
return finish('ok')
