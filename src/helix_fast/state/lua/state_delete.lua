-- Delete everything of a session.
--
-- KEYS[1-9]           those of state_prelude
-- ARGV[1] operation   id of this call; every attempt of one call has the same
-- ARGV[2] token       fencing token in decimal, '' for none
-- ARGV[3] remember    seconds for which the largest token seen stays
--
-- Reply: {'ok'} | {'missing'} | {'stale', token seen}
-- The largest token stays in the key of the session with ':fence' appended, a STRING with TTL: state_prelude reads it.
-- What stays for its minute or two is what KEYS[6] and KEYS[7] know of calls: a repetition of this one must not delete a
-- successor, and one of a save that came before it must not bring the session back.

-- include token_less

-- 1. A repetition, because the reply was lost
local seen = redis.call('HGET', KEYS[6], ARGV[1]) or redis.call('HGET', KEYS[7], ARGV[1])
if seen then return {seen} end

-- 2. Fencing; a session whose fields are not what we wrote can be deleted all the same
local known = redis.call('HMGET', KEYS[1], 'fence', 'generation', 'pins')
local token, fence, left = ARGV[2], known[1] or '', KEYS[1] .. ':fence'
if redis.call('EXISTS', KEYS[1]) == 0 then fence = redis.call('GET', left) or '' end
if not string.match(fence, '^%d+$') then fence = '' end
if token ~= '' then
  if fence ~= '' and less(token, fence) then return {'stale', fence} end
  fence = token
end
if fence ~= '' then redis.call('SET', left, fence, 'EX', ARGV[3]) end

-- 3. All keys, also those that only the session knows of
local keys = {KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[8]}
keys[#keys + 1] = KEYS[1] .. ':messages:' .. (known[2] or '1')
for number in string.gmatch(known[3] or '', '(%d+):') do keys[#keys + 1] = KEYS[1] .. ':messages:' .. number end
for _, step in ipairs(redis.call('SMEMBERS', KEYS[8])) do keys[#keys + 1] = KEYS[1] .. ':staging:' .. step end
local word = redis.call('EXISTS', KEYS[1]) == 1 and 'ok' or 'missing'
for i = 1, #keys, 1000 do redis.call('UNLINK', unpack(keys, i, math.min(i + 999, #keys))) end

if KEYS[9] ~= KEYS[1] then redis.call('ZREM', KEYS[9], string.match(KEYS[1], '{(.*)}$')) end

-- 4. Remember the reply, as state_prelude does
local minute = math.floor(redis.call('TIME')[1] / 60)
local operations = KEYS[6 + minute % 2]
redis.call('HSET', operations, ARGV[1], word)
redis.call('EXPIREAT', operations, (minute + 2) * 60)
return {word}
