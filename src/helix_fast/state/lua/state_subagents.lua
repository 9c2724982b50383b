-- The references to sub-agents.
--
-- KEYS[1-8]  those of state_prelude
-- ARGV       none
--
-- Reply: false where there is no session | sub-agent's session, JSON, ...

if redis.call('EXISTS', KEYS[1]) == 0 then return false end
return redis.call('HGETALL', KEYS[3])
