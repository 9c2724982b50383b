-- Stage what a tool call wants to change, in place of what the same call has staged before.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- KEYS[10] staging      LIST of the step
-- ARGV[4] step          its id
-- ARGV[5] head          the bytes with which the changes of this tool call begin, and of no other
-- ARGV[6] change        JSON of strings: toolCallId, timestamp, patches (JSON), replacements, merge (kind, name, JSON, ...)
--
-- Reply: {'ok', ..., number staged in this step}
-- include state_prelude

if not version then return {'missing'} end
local lines, place = redis.call('LRANGE', KEYS[10], 0, -1), nil
for i, line in ipairs(lines) do
  if string.sub(line, 1, #ARGV[5]) == ARGV[5] then place = i end
end
local length = #lines
if place then redis.call('LSET', KEYS[10], place - 1, ARGV[6]) else length = redis.call('RPUSH', KEYS[10], ARGV[6]) end
if redis.call('SADD', steps, ARGV[4]) == 1 then
  staged = redis.call('SCARD', steps)
  redis.call('HSET', session, 'staged', staged)
end
return finish(says('ok', tostring(length)))
