-- Delete a conversation's record, and the entries that no other conversation uses.
--
-- KEYS[1-3]             those of conversation_prelude
-- ARGV[1] conversation  its id
-- ARGV[2] expected      revision that must be stored
-- ARGV[3] remember      milliseconds for which a call is known: longer than it may be repeated
--
-- Reply: 'ok' | 'conflict': another revision is stored, or none
-- Repeating it after a lost reply is safe: it finds its operation.
-- include conversation_prelude

if redis.call('EXISTS', KEYS[3]) == 1 then return redis.call('GET', KEYS[3]) end
local stored = redis.call('HMGET', KEYS[2], 'revision', 'refs', 'scope')
if stored[1] ~= ARGV[2] then return 'conflict' end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
unlist(stored[3] or '', ARGV[1])
release_all(stored[2] or '')
redis.call('SET', KEYS[3], 'ok', 'PX', ARGV[3])
return 'ok'
