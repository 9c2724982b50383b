-- Included where checkpoints are deleted from a thread; not a script of its own.

local function all_places() return redis.call('ZRANGE', order, 0, -1) end

local function delete_fields(key, fields) -- in portions
  for first = 1, #fields, 1000 do redis.call('HDEL', key, unpack(fields, first, math.min(first + 999, #fields))) end
end

local dropped = {} -- names of the blobs of deleted checkpoints

local function names_at(place)
  local _, _, names = record_of(redis.call('HGET', checkpoints, place))
  return namespace_of(place), list_of(names)
end

local function drop(place) -- a checkpoint and its writes
  local space, names = names_at(place)
  for _, name in ipairs(names) do dropped[space .. name] = true end
  redis.call('HDEL', checkpoints, place)
  redis.call('ZREM', order, place)
  local tasks = redis.call('HGET', writes, 'i' .. place)
  if tasks then
    delete_fields(writes, fields_of_writes(place, tasks))
    redis.call('HDEL', writes, 'i' .. place)
  end
end

local function sweep() -- delete the blobs of deleted checkpoints that no other names
  for _, place in ipairs(all_places()) do
    local space, names = names_at(place)
    for _, name in ipairs(names) do dropped[space .. name] = nil end
  end
  local unused = {}
  for name in pairs(dropped) do unused[#unused + 1] = name end
  delete_fields(blobs, unused)
end
