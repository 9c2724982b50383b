-- Store a checkpoint and the blobs that are new with it.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
-- ARGV[3] place
-- ARGV[4] record
-- ARGV[5...]            name and value of each blob; '' for a channel that is empty: it has no blob
--
-- Reply: 'ok' | 'created': it is the thread's first one
-- include thread_prelude

local created = redis.call('EXISTS', order) == 0
redis.call('HSET', checkpoints, ARGV[3], ARGV[4])
redis.call('ZADD', order, 0, ARGV[3])
for i = 5, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', blobs, ARGV[i])
  else
    redis.call('HSET', blobs, ARGV[i], ARGV[i + 1])
  end
end
return finish(created and 'created' or 'ok')
