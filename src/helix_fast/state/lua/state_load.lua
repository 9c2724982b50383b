-- The whole state of a session.
--
-- KEYS[1-8]  those of state_prelude
-- ARGV       none
--
-- Reply: false where there is no session | {session, custom, subagents (each name, value, ...), messages, born}

local session = redis.call('HGETALL', KEYS[1])
if #session == 0 then return false end
local known = redis.call('HMGET', KEYS[1], 'generation', 'born', 'createdAt')
return {session, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3]),
  redis.call('LRANGE', KEYS[1] .. ':messages:' .. (known[1] or ''), 0, -1), known[2] or known[3] or ''}
