-- One page of the log for a reader: from a sequence when it opens, from an entry when it goes on.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- ARGV[1] after     sequence after which to begin, where ARGV[2] is ''
-- ARGV[2] entry     id of the last entry seen, '' when opening
-- ARGV[3] epoch     of the position, '' where it has none
-- ARGV[4] count     entries at most
-- ARGV[5] ttl       seconds for a stream that is marked failed here, '0' to keep
-- ARGV[6] updated   ISO time for the reader's eye
-- ARGV[7] publish   PUBLISH or SPUBLISH
-- ARGV[8] channel   of pushes to readers
--
-- Reply: false where there is no stream | {'reset', epoch} | {'page', epoch, base, status, entries}
-- A producer whose lease ran out without an end is marked here, by the first who looks.

local known = redis.call('HMGET', KEYS[2], 'epoch', 'base', 'status', 'terms', 'leases')
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not top then return false end
if ARGV[3] ~= '' and known[1] and known[1] ~= ARGV[3] then return {'reset', known[1]} end

-- 1. A lost producer
if known[5] and known[3] == 'active' and redis.call('EXISTS', KEYS[3]) == 0 then
  local last = '0'
  for i = 1, #top[2], 2 do
    if top[2][i] == 'sequence' then last = top[2][i + 1] end
  end
  redis.call('XADD', KEYS[1], '18446744073709551615-' .. last, 'sequence', last, 'event', 'lost', 'error', 'the producer was lost')
  redis.call('HSET', KEYS[2], 'status', 'failed', 'error', 'the producer was lost', 'updatedAt', ARGV[6])
  redis.call('HDEL', KEYS[2], 'leases')
  if tonumber(ARGV[5]) > 0 then
    redis.call('EXPIRE', KEYS[1], ARGV[5])
    redis.call('EXPIRE', KEYS[2], ARGV[5])
  end
  redis.call(ARGV[7], ARGV[8], '!')
  known[3] = 'failed'
end

-- 2. Where to begin: the entry that holds the sequence begins at or before it, in the term that had begun by then
local from = '-'
if ARGV[2] ~= '' then
  from = '(' .. ARGV[2]
elseif known[4] and tonumber(ARGV[1]) > 0 then
  local wanted, term = ARGV[1] + 1, nil
  for number, first in string.gmatch(known[4], '(%d+):(%d+)') do
    if tonumber(first) <= wanted then term = number end
  end
  if term then
    local holder = redis.call('XREVRANGE', KEYS[1], term .. '-' .. string.format('%.0f', wanted), '-', 'COUNT', 1)[1]
    if holder then from = holder[1] end
  end
end
return {'page', known[1] or '', known[2] or '0', known[3] or 'active', redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[4])}
