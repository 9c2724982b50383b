-- Delete a stream with all that belongs to it.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- KEYS[4] index     the shard that lists the stream; the stream's own key where that is on another node
-- ARGV[1] publish   PUBLISH or SPUBLISH
-- ARGV[2] channel   of pushes to readers
--
-- Reply: 1 where there was one, else 0.

if KEYS[4] ~= KEYS[1] then redis.call('ZREM', KEYS[4], string.match(KEYS[1], '{(.*)}$')) end
local there = redis.call('EXISTS', KEYS[1])
if redis.call('DEL', KEYS[1], KEYS[2], KEYS[3]) > 0 then redis.call(ARGV[1], ARGV[2], '!') end
return there
