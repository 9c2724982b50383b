-- Included where stored totals are checked; not a script of its own.

-- How many entries of the list they cover, what they are, the digest and the first entry; 0 where they belong to
-- another life of the list or are of another format: it is as if they were not there. So is a key of another type, whose
-- error has no fields.
local function covered(entries, totals, format, nonce)
  local stored = redis.pcall('HMGET', totals, 'format', 'nonce', 'place', 'digest', 'sums')
  if stored[1] ~= format or stored[2] ~= nonce then return 0 end
  local place = string.match(stored[3] or '', '^%d+$')
  if not place or tonumber(place) > redis.call('LLEN', entries) then return 0 end
  local first = redis.call('LINDEX', entries, 0)
  if redis.sha1hex(first .. redis.call('LINDEX', entries, place - 1)) ~= stored[4] then return 0 end
  return tonumber(place), stored[5], stored[4], first
end
