-- Read a session's entries on from a place, or from the beginning where the list is not the one that was read before.
--
-- KEYS[1] entries   LIST of JSON
-- KEYS[2] ids       HASH; '' -> nonce of the list
-- KEYS[3] totals    HASH, see usage_totals.lua; absent if they are not wanted
-- ARGV[1] place     entries read before
-- ARGV[2] nonce     of the list that they were read from, '' where it had none
-- ARGV[3] digest    SHA-1 of the first of them and the last, in hex
-- ARGV[4] count     entries at most; 0: only to know whether the list is still the same
-- ARGV[5] format    of the totals, with KEYS[3]
--
-- Reply: false where there are none | {nonce, length of the list, place of the first entry that follows, entries}
--   and, where it was to be read from the beginning and totals cover its first entries, after these four what they are:
--   {…, sums, digest of the place, first entry of the list}
-- Nonce and digest together tell another life of the list, also one made by a writer that knows no nonces.

-- include totals_covered

local entries = KEYS[1]
local length = redis.call('LLEN', entries)
if length == 0 then return false end
local nonce = redis.call('HGET', KEYS[2], '') or ''
local place = tonumber(ARGV[1])
local sums, digest, first
if place > 0 then
  local same = nonce == ARGV[2] and length >= place
  if same then
    same = redis.sha1hex(redis.call('LINDEX', entries, 0) .. redis.call('LINDEX', entries, place - 1)) == ARGV[3]
  end
  if not same then place = 0 end
elseif KEYS[3] then
  place, sums, digest, first = covered(entries, KEYS[3], ARGV[5], nonce)
end
local found, count = {}, tonumber(ARGV[4])
if count > 0 and length > place then found = redis.call('LRANGE', entries, place, place + count - 1) end
return {nonce, length, place, found, sums, digest, first}
