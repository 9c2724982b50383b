-- The references to sub-agents.
--
-- KEYS[1-8]  those of state_prelude
-- ARGV       none
--
-- Reply: {'ok', ..., {sub-agent's session, JSON, ...}} | false without a session | {'malformed', field}
-- include state_reading

local total, refusal = conversation()
if not total then return refusal end
return says(redis.call('HGETALL', KEYS[3]))
