-- Delete everything of a session.
--
-- KEYS[1-8]       those of state_prelude
-- ARGV[1] token   fencing token in decimal, '' for none
-- ARGV[2] begun   the server's time in µs when the first attempt of this call began, '' in the first
--
-- Reply: {'ok'} | {'missing'} | {'stale', token seen}
-- Nothing stays behind to know a repetition by: a session born since the first attempt is a successor and
-- is kept; one that is not there any more was deleted by it.

local known = redis.call('HMGET', KEYS[1], 'fence', 'generation', 'pins', 'bornAt')
local fence = known[1]
if ARGV[1] ~= '' and string.match(fence or '', '^%d+$') and (#ARGV[1] < #fence or #ARGV[1] == #fence and ARGV[1] < fence) then return {'stale', fence} end
local again = ARGV[2] ~= ''
if again and known[4] and tonumber(known[4]) >= tonumber(ARGV[2]) then return {'ok'} end
local keys = {KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]}
keys[#keys + 1] = KEYS[1] .. ':messages:' .. (known[2] or '1')
for number in string.gmatch(known[3] or '', '(%d+):') do keys[#keys + 1] = KEYS[1] .. ':messages:' .. number end
for _, step in ipairs(redis.call('SMEMBERS', KEYS[8])) do keys[#keys + 1] = KEYS[1] .. ':staging:' .. step end
local there = redis.call('EXISTS', KEYS[1])
for i = 1, #keys, 1000 do redis.call('UNLINK', unpack(keys, i, math.min(i + 999, #keys))) end
return (there == 1 or again) and {'ok'} or {'missing'}
