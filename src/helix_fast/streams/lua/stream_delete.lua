-- Delete a stream with all that belongs to it.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- KEYS[4] index     the shard that lists the stream; the stream's own key where that is on another node
-- ARGV[1] publish   PUBLISH or SPUBLISH
-- ARGV[2] channel   of pushes to readers
--
-- Reply: 1 where there was one, else 0.

if KEYS[4] ~= KEYS[1] then redis.call('ZREM', KEYS[4], string.match(KEYS[1], '{(.*)}$')) end
local there, term = redis.call('EXISTS', KEYS[1]), redis.pcall('HGET', KEYS[2], 'term')
if redis.call('DEL', KEYS[1], KEYS[2], KEYS[3]) > 0 then redis.call(ARGV[1], ARGV[2], '!') end
-- A term may be ahead of the server's clock. Until that is past it, a stream of the same name has to begin above it: the ids
-- of an old writer would be accepted otherwise.
local time = redis.call('TIME')
local ahead = (type(term) == 'string' and string.match(term, '^%d+$') and tonumber(term) or 0) - (time[1] * 1000000 + time[2])
if ahead >= 0 then redis.call('SET', KEYS[3], 'deleted:' .. term, 'PX', string.format('%.0f', math.floor(ahead / 1000) + 1)) end
return there
