-- Everything that is stored of a thread, at one time.
--
-- KEYS[1] checkpoints   KEYS[2] blobs   KEYS[3] writes: as in thread_prelude, but for the order
--
-- Reply: {checkpoints, blobs, writes}: of each field, value, ...

return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
