-- Count something up.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] field         stepCount or resumeCount
-- ARGV[5] by
--
-- Reply: {'ok', ..., the new value} | {'range', ...} where it would exceed 2^53 - 1
-- include state_prelude

if not version then return {'missing'} end
local value = redis.call('HGET', session, ARGV[4]) or '0'
if not string.match(value, '^%d+$') then return {'malformed', ARGV[4]} end
local sum = tonumber(value) + tonumber(ARGV[5])
if sum > 9007199254740991 then return says('range') end
bump(ARGV[4], string.format('%.0f', sum))
return finish(says('ok', string.format('%.0f', sum)))
