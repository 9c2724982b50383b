-- What was written to some channels on the way from a checkpoint to the root, as far as the blob that each goes on from.
--
-- KEYS[1] checkpoints   KEYS[2] order   KEYS[3] blobs   KEYS[4] writes: those of thread_prelude
-- ARGV[1] namespace     as a part
-- ARGV[2] id            '' for the largest one
-- ARGV[3] ttl           seconds that the thread lives from now on, '' to leave it
-- ARGV[4...]            channels
--
-- Reply: for each ancestor, from the parent on: {{writes of each task}, {channel, value of its blob, ...}}
-- include thread_parts
-- include thread_renewing

local space = ARGV[1]
local place = space .. ARGV[2]
if ARGV[2] == '' then place = redis.call('ZRANGE', KEYS[2], '(' .. space .. '\255', '[' .. space, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1] end
local record = place and redis.call('HGET', KEYS[1], place)
if not record then return {} end
renew(ARGV[3])

local wanted, left, steps, passed = {}, 0, {}, {[place] = true}
for i = 4, #ARGV do
  if not wanted[ARGV[i]] then
    wanted[ARGV[i]] = true
    left = left + 1
  end
end
local parent, _ = record_of(record)
while left > 0 and parent ~= '' do
  place = space .. parent
  record = redis.call('HGET', KEYS[1], place)
  if not record or passed[place] then break end
  passed[place] = true
  local names
  local seeds = {}
  parent, _, names = record_of(record)
  for _, name in ipairs(list_of(names)) do
    local channel = part(name, 1)
    local value = wanted[channel] and redis.call('HGET', KEYS[3], space .. name)
    if value then
      seeds[#seeds + 1] = channel
      seeds[#seeds + 1] = value
      wanted[channel] = nil
      left = left - 1
    end
  end
  steps[#steps + 1] = {writes_of(KEYS[4], place), seeds}
end
return steps
