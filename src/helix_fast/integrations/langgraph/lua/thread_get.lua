-- One checkpoint with its blobs and writes.
--
-- KEYS[1] checkpoints   KEYS[2] order   KEYS[3] blobs   KEYS[4] writes: those of thread_prelude
-- ARGV[1] namespace     as a part
-- ARGV[2] id            '' for the largest one
-- ARGV[3] ttl           seconds that the thread lives from now on, '' to leave it
--
-- Reply: {place, record, {writes of each task}, {name, value, ... of the blobs}} | nil
-- include thread_parts
-- include thread_renewing

local place = ARGV[1] .. ARGV[2]
if ARGV[2] == '' then
  place = redis.call('ZRANGE', KEYS[2], '(' .. ARGV[1] .. '\255', '[' .. ARGV[1], 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  if not place then return nil end
end
local record = redis.call('HGET', KEYS[1], place)
if not record then return nil end
local _, _, names = record_of(record)
names = list_of(names)
for i, name in ipairs(names) do names[i] = ARGV[1] .. name end
local named = {}
for i, value in ipairs(values(KEYS[3], names)) do
  if value then
    named[#named + 1] = names[i]
    named[#named + 1] = value
  end
end
renew(ARGV[3])
return {place, record, writes_of(KEYS[4], place), named}
