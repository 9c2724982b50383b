-- Open a stream for writing: create it, join its term, or take it over with a larger fencing token.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- ARGV[1] producer      name of the process among the holders of the lease
-- ARGV[2] token         fencing token in decimal, '' for none
-- ARGV[3] lease         milliseconds, '0' for none
-- ARGV[4] ttl           seconds, '0' to keep
-- ARGV[5] publish       PUBLISH or SPUBLISH
-- ARGV[6] channel       of pushes to readers
--
-- Reply: {'open', term, epoch, last, terms, stop ('0'/'1'), reason, status} | {'closed', status} | {'stale', token seen}
-- Repeating it after a lost reply is safe: it finds what the first one made and joins it.

-- include token_less

local function iso(ms) -- days to civil date after Howard Hinnant, as Redis has no os.date
  local seconds = math.floor(ms / 1000)
  local z = math.floor(seconds / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local rest = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60, ms % 1000)
end

-- include base36
-- include stream_field

-- 1. What is there
local stream, meta, lease = KEYS[1], KEYS[2], KEYS[3]
local writer, token, lease_ms, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = redis.call('HMGET', meta, 'status', 'term', 'epoch', 'terms', 'fence', 'stop', 'stopReason', 'leases')
local status, term, epoch, terms, fence = known[1], known[2], known[3], known[4], known[5]
local top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local last = top and tonumber(field(top[2], 'sequence')) or tonumber(redis.call('HGET', meta, 'base')) or 0

-- 2. Fencing comes first: a stale holder learns that it is one, whatever became of the stream
if token ~= '' and fence and less(token, fence) then return {'stale', fence} end
if top and (status == 'ended' or status == 'failed') then return {'closed', status} end

local function start_term(event)
  local number = math.max(now, term and tonumber(term) + 1 or 0)
  if top then number = math.max(number, tonumber(string.match(top[1], '^%d+')) + 1) end
  term = string.format('%.0f', number)
  redis.call('XADD', stream, term .. '-' .. string.format('%.0f', last), 'sequence', string.format('%.0f', last), 'event', event)
  return number
end

-- 3. Create, or take over
if not (top and term) then
  -- no stream of ours: none at all, one written by plain XADD (its sequences go on), or a meta hash whose log was evicted
  local number = start_term('open')
  epoch = base36(number)
  terms = term .. ':' .. string.format('%.0f', last + 1)
  local created = iso(math.floor(now / 1000))
  redis.call('HSET', meta, 'status', 'active', 'epoch', epoch, 'base', string.format('%.0f', top and 0 or last), 'createdAt', created,
    'updatedAt', created)
  redis.call('HDEL', meta, 'stop', 'stopReason', 'leases', 'error', 'output')
  known[6], known[7], known[8], status = false, false, false, 'active'
  redis.call('HSET', meta, 'term', term, 'terms', terms)
elseif token ~= '' and fence and less(fence, token) or token ~= '' and not fence then
  start_term('takeover')
  local oldest = tonumber(string.match(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1], '^%d+'))
  local kept = {}
  for old, first in string.gmatch(terms, '(%d+):(%d+)') do
    if tonumber(old) >= oldest then kept[#kept + 1] = old .. ':' .. first end
  end
  kept[#kept + 1] = term .. ':' .. string.format('%.0f', last + 1)
  terms = table.concat(kept, ',')
  known[8] = false
  redis.call('HDEL', meta, 'leases')
  redis.call('DEL', lease)
  redis.call('HSET', meta, 'term', term, 'terms', terms)
  redis.call(ARGV[5], ARGV[6], '!')
end
if token ~= '' then redis.call('HSET', meta, 'fence', token) end

-- 4. The producer's lease
if lease_ms > 0 then
  local leases = known[8] or ''
  if not string.find(leases, writer, 1, true) then redis.call('HSET', meta, 'leases', leases .. writer .. ',') end
  if redis.call('PTTL', lease) < lease_ms then redis.call('SET', lease, writer, 'PX', lease_ms) end
end

-- 5. Every key has its TTL from its first moment
if ttl > 0 then
  redis.call('EXPIRE', stream, ttl)
  redis.call('EXPIRE', meta, ttl)
end
return {'open', term, epoch, string.format('%.0f', last), terms, known[6] or '0', known[7] or '', status}
