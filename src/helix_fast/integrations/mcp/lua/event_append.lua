-- Append an event to a stream of MCP.
--
-- KEYS[1] events        STREAM
-- KEYS[2] operation     STRING with TTL: the id that this call has stored
-- ARGV[1] message       JSON; empty: a mark to resume from, which is never replayed
-- ARGV[2] max_events    the newest that are kept
-- ARGV[3] ttl           milliseconds that the stream is kept after its last event
-- ARGV[4] remembered    milliseconds that the operation is kept
--
-- Reply: the id of the event
-- Repeating it after a lost reply is safe: it finds the operation.

local stored = redis.call('GET', KEYS[2])
if stored then return stored end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'm', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], id, 'PX', ARGV[4])
return id
