-- Stage what a tool call wants to change.
--
-- KEYS[1-8], ARGV[1-3]  those of state_prelude
-- KEYS[9] staging       LIST of the step
-- ARGV[4] step          its id
-- ARGV[5] change        JSON of strings: toolCallId, timestamp, patches (JSON), replacements, merge (kind, name, JSON, ...)
--
-- Reply: {'ok', number staged in this step}
-- include state_prelude

if not version then return {'missing'} end
local length = redis.call('RPUSH', KEYS[9], ARGV[5])
if redis.call('SADD', steps, ARGV[4]) == 1 then
  staged = redis.call('SCARD', steps)
  redis.call('HSET', session, 'staged', staged)
end
return finish({'ok', tostring(length)})
