-- Store what the first entries of a list add up to, for readers that have read none of them.
--
-- KEYS[1] entries   LIST of JSON
-- KEYS[2] ids       HASH; '' -> nonce of the list
-- KEYS[3] totals    HASH: format, place, nonce, digest, sums, as below
-- ARGV[1] format    of the sums
-- ARGV[2] place     entries that they cover, from 1
-- ARGV[3] nonce     of the list that these were read from, '' where it had none
-- ARGV[4] digest    SHA-1 of the first of them and the last, in hex
-- ARGV[5] sums      JSON of the client, stored unread
--
-- Reply: 1 where they are stored, 0 where not: it is another list now, as much or more is stored, or no write is allowed
-- Repeating it is safe, and so is any order of several: what is stored only ever covers more, and sums of the same
-- entries are the same. The reply is ignored.

-- include totals_covered

local entries, totals = KEYS[1], KEYS[3]
local place, nonce = tonumber(ARGV[2]), ARGV[3]
local LASTING = 604800 -- seconds, for a list that has no TTL, so that totals do not outlast it for ever

-- 1. Is it still that list?
if redis.call('LLEN', entries) < place or (redis.call('HGET', KEYS[2], '') or '') ~= nonce then return 0 end
local digest = redis.sha1hex(redis.call('LINDEX', entries, 0) .. redis.call('LINDEX', entries, place - 1))
if digest ~= ARGV[4] then return 0 end

-- 2. Another reader may have got further. What covers just as much and is not the same was of no use to this one
local known, sums = covered(entries, totals, ARGV[1], nonce)
if known > place or (known == place and sums == ARGV[5]) then return 0 end

-- 3. A refusal (no rights, a replica, a full server) is no error: a READONLY would make the client leave the server
local written = redis.pcall(
  'HSET', totals, 'format', ARGV[1], 'nonce', nonce, 'place', ARGV[2], 'digest', digest, 'sums', ARGV[5]
)
if type(written) == 'table' then return 0 end

-- 4. They live as long as the list had still to live; where that is renewed later, they expire and are stored again
local left = redis.call('PTTL', entries)
local lives = redis.pcall('PEXPIRE', totals, left > 0 and left or LASTING * 1000)
if type(lives) == 'table' then
  redis.pcall('DEL', totals)
  return 0
end
return 1
