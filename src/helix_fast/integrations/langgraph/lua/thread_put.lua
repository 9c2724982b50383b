-- Store a checkpoint and the blobs that are new with it.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
-- ARGV[3] place
-- ARGV[4] record
-- ARGV[5] count         of the blobs
-- ARGV[6...]            name and value of each blob, then the names of channels that are empty: they have none
--
-- Reply: 'ok' | 'created': it is the thread's first one
-- include thread_prelude

local created = redis.call('EXISTS', order) == 0
redis.call('HSET', checkpoints, ARGV[3], ARGV[4])
redis.call('ZADD', order, 0, ARGV[3])
local last = 5 + 2 * ARGV[5]
for first = 6, last, 2000 do -- as many arguments as unpack() may push at once
  redis.call('HSET', blobs, unpack(ARGV, first, math.min(first + 1999, last)))
end
for i = last + 1, #ARGV do redis.call('HDEL', blobs, ARGV[i]) end
return finish(created and 'created' or 'ok', created)
