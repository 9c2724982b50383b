-- Included where what is stored of a thread is taken apart; not a script of its own.
--
-- Parts are written as '<length>:<bytes>', one behind the other. A place is the namespace as a part, and the id of a checkpoint.
-- A record is these parts: parent's id, run, names of blobs (parts), delta channels without a blob (parts), and what only clients
-- read. The name of a blob in it is the channel as a part, and the version; in the hash of blobs the namespace is before it.
-- In the hash of writes, 'i' and a place is the field of the tasks (parts) that wrote there; 'g', the place as a part and a task
-- is that of the task's writes: the task as a part, then index and write of each, as parts.

local function part(text, at) -- the part at a position, and the position behind it
  local _, colon, length = string.find(text, '^(%d+):', at)
  return string.sub(text, colon + 1, colon + length), colon + length + 1
end

local function as_part(text) return #text .. ':' .. text end

local function list_of(text) -- all parts
  local found, at = {}, 1
  while at <= #text do found[#found + 1], at = part(text, at) end
  return found
end

local function namespace_of(place) -- as a part
  local _, behind = part(place, 1)
  return string.sub(place, 1, behind - 1)
end

local function record_of(record) -- parent, run, names, delta channels
  local parent, run, names, deltas
  local at = 1
  parent, at = part(record, at)
  run, at = part(record, at)
  names, at = part(record, at)
  deltas, at = part(record, at)
  return parent, run, names, deltas
end

local function fields_of_writes(place, tasks)
  local fields, head = {}, 'g' .. as_part(place)
  for i, task in ipairs(list_of(tasks)) do fields[i] = head .. task end
  return fields
end

local function values(key, fields) -- HMGET in portions: Lua passes no more than some thousand arguments
  local found = {}
  for first = 1, #fields, 1000 do
    local last = math.min(first + 999, #fields)
    for i, value in ipairs(redis.call('HMGET', key, unpack(fields, first, last))) do found[first + i - 1] = value end
  end
  return found
end

local function writes_of(key, place)
  local tasks = redis.call('HGET', key, 'i' .. place)
  return tasks and values(key, fields_of_writes(place, tasks)) or {}
end
