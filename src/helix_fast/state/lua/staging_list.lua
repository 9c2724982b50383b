-- What a step has staged.
--
-- KEYS[1-8]       those of state_prelude
-- KEYS[9] staging LIST of the step
-- ARGV            none
--
-- Reply: {'ok', ..., changes} | false without a session | {'malformed', field}
--        | {'foreign', error}: KEYS[9] is no list
-- include state_reading

local total, refusal = conversation()
if not total then return refusal end
local lines = redis.pcall('LRANGE', KEYS[9], 0, -1)
if lines.err then return {'foreign', lines.err} end
return says(lines)
