-- Open a stream for writing: create it, join its term, take it over with a larger fencing token, or begin a term where the
-- server's history is another one.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- KEYS[4] index     the shard that lists the stream; the stream's own key: it is listed already, or after this
-- ARGV[1] producer      name of the process among the holders of the lease
-- ARGV[2] token         fencing token in decimal, '' for none
-- ARGV[3] lease         milliseconds, '0' for none
-- ARGV[4] ttl           seconds, '0' to keep
-- ARGV[5] publish       PUBLISH or SPUBLISH
-- ARGV[6] channel       of pushes to readers
-- ARGV[7] tag           of a term that begins here: letters and digits, made at random
-- ARGV[8] number        of the term that this process knows of the stream, '' for none
-- ARGV[9] number's tag
-- ARGV[10] seen         largest sequence that it knows of that term, '0' for none
-- ARGV[11] its epoch     of another life of the stream the rest says nothing
--
-- Reply: {'open', term, epoch, last, terms, stop ('0'/'1'), reason, status, fence ('' for none), history}
-- | {'closed', status} | {'stale', token seen}
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
-- include stream_terms
-- include listing

-- 1. What is there
local stream, meta, lease = KEYS[1], KEYS[2], KEYS[3]
local writer, token, lease_ms, ttl, tag = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[7]
local known = redis.call('HMGET', meta, 'status', 'term', 'epoch', 'terms', 'fence', 'stop', 'stopReason', 'leases', 'history')
local status, term, epoch, terms, fence = known[1], known[2], known[3], known[4], known[5]
local top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local base = top and tonumber(field(top[2], 'sequence')) or tonumber(redis.call('HGET', meta, 'base')) or 0
local history = history_here()

-- 2. Fencing comes first: a stale holder learns that it is one, whatever became of the stream
if token ~= '' and fence and less(token, fence) then return {'stale', fence} end
if top and (status == 'ended' or status == 'failed') then return {'closed', status} end

local number, seen = ARGV[8], ARGV[10]
if ARGV[11] ~= epoch then number, seen = '', '0' end

if KEYS[4] ~= stream then list_id(KEYS[4], ttl, string.match(stream, '{(.*)}$'), not (top and term)) end

-- 3. Create, take over, or begin a term for a new history
if not (top and term) then
  -- no stream of ours: none at all, one written by plain XADD (its sequences go on), or a meta hash whose log was evicted
  local kept = redis.pcall('GET', lease) -- by stream_delete: a term that the clock is not past yet
  local deleted = type(kept) == 'string' and string.match(kept, '^deleted:(%d+)$')
  term, terms = begin_term(stream, meta, 'open', top, term or deleted, '', ARGV[8], base, tag, history)
  epoch = base36(tonumber(term)) .. string.lower(tag)
  local time = redis.call('TIME')
  local created = iso(time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSET', meta, 'status', 'active', 'epoch', epoch, 'base', text(top and 0 or base), 'createdAt', created,
    'updatedAt', created)
  redis.call('HDEL', meta, 'stop', 'stopReason', 'leases', 'leaseMs', 'missed', 'error', 'output')
  redis.call('DEL', lease)
  known[6], known[7], known[8], status = false, false, false, 'active'
elseif token ~= '' and (not fence or less(fence, token)) then
  term, terms = begin_term(stream, meta, 'takeover', top, term, terms, number, seen, tag, history)
  known[8] = false
  redis.call('HDEL', meta, 'leases', 'leaseMs', 'missed')
  redis.call('DEL', lease)
  redis.call(ARGV[5], ARGV[6], '!')
else
  local unknown = number ~= '' and terms ~= '' and end_of(terms, number, ARGV[9]) == nil and tonumber(number) >= tonumber(term)
  if another(known[9], history) or unknown then
    term, terms = begin_term(stream, meta, 'history', top, term, terms, number, seen, tag, history)
    respite(meta, lease)
    redis.call(ARGV[5], ARGV[6], '!')
  end
end
if token ~= '' then
  redis.call('HSET', meta, 'fence', token)
  fence = token
end
top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]

-- 4. The producer's lease
if lease_ms > 0 then
  local leases = known[8] or ''
  if not string.find(leases, writer, 1, true) then redis.call('HSET', meta, 'leases', leases .. writer .. ',') end
  if redis.call('PTTL', lease) < lease_ms then redis.call('SET', lease, writer, 'PX', lease_ms) end
  if lease_ms > (tonumber(redis.call('HGET', meta, 'leaseMs')) or 0) then redis.call('HSET', meta, 'leaseMs', ARGV[3]) end
  redis.call('HDEL', meta, 'missed')
end

-- 5. Every key has its TTL from its first moment
if ttl > 0 then
  redis.call('EXPIRE', stream, ttl)
  redis.call('EXPIRE', meta, ttl)
end
return {'open', term, epoch, field(top[2], 'sequence'), terms, known[6] or '0', known[7] or '', status, fence or '', history}
