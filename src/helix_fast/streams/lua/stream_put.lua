-- Append chunks at a sequence that the caller names (RedisResumableStorage).
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- KEYS[4] index     the shard that lists the stream; the stream's own key: it is listed already, or after this
-- ARGV[1] first     sequence of the first chunk
-- ARGV[2] token     fencing token in decimal, '' for none
-- ARGV[3] ttl       seconds, '0' to keep
-- ARGV[4] keep      chunks to keep at least, '0' for all
-- ARGV[5] longest   chunks that an entry has at most
-- ARGV[6] publish   PUBLISH or SPUBLISH
-- ARGV[7] channel   of pushes to readers
-- ARGV[8] tag       of a term that begins here: letters and digits, made at random
-- ARGV[9...]        pairs of (chunks in the entry, body of the entry)
--
-- Reply: {'ok'} | {'none'} | {'closed', status} | {'stale', token seen} | {'conflict', expected sequence}
--   | {'sealed', status}: it is closed, unless these chunks are its last, which only the caller can inflate
-- Idempotent: chunks that are the stream's last already, byte for byte, are not added again.

-- include stream_field
-- include token_less
-- include stream_terms
-- include listing

local stream, meta = KEYS[1], KEYS[2]
local known = redis.call('HMGET', meta, 'status', 'term', 'terms', 'fence', 'history')
local top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if not top or not known[2] then return {'none'} end
local token, fence = ARGV[2], known[4]
if token ~= '' and fence and less(token, fence) then return {'stale', fence} end

-- 1. A repeated call: the same bytes are there already, as the same entries or as the last line of one. Terms may have
-- begun since, and the stream may have ended: their entries have no chunks
local function holder(sequence) -- the term of an entry that begins there
  local found
  for number, begin in string.gmatch(known[3], '(%d+):(%d+)[^,]*') do
    if tonumber(begin) <= sequence then found = number end
  end
  return found
end

local first, last = tonumber(ARGV[1]), tonumber(field(top[2], 'sequence'))
local total = 0
for i = 9, #ARGV, 2 do total = total + ARGV[i] end
if first + total - 1 == last then
  local same, at = true, first
  for i = 9, #ARGV, 2 do
    local id = (holder(at) or '0') .. '-' .. text(at)
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if not entry or field(entry[2], 'chunk') ~= ARGV[i + 1] then same = false end
    at = at + ARGV[i]
  end
  if not same and total == 1 then
    for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 16)) do
      local body = field(entry[2], 'chunk')
      if body then
        same = body == ARGV[10] or string.sub(body, -#ARGV[10] - 1) == '\n' .. ARGV[10]
        break
      end
    end
  end
  if same then return {'ok'} end
  if string.sub(known[3], 1, 7) == 'sealed,' then return {'sealed', known[1]} end
end
if known[1] == 'ended' or known[1] == 'failed' then return {'closed', known[1]} end
if first ~= last + 1 then return {'conflict', text(last + 1)} end

if KEYS[4] ~= stream then list_id(KEYS[4], tonumber(ARGV[3]), string.match(stream, '{(.*)}$'), false) end

-- 2. A larger token takes over, as in stream_open: writers of the terms before are refused from now on. In another history of
-- the server the chunks are of a term of their own
local term, terms = known[2], known[3]
local history = history_here()
if token ~= '' and (not fence or less(fence, token)) then
  term, terms = begin_term(stream, meta, 'takeover', top, term, terms, '', '', ARGV[8], history)
  redis.call('HSET', meta, 'fence', token)
  redis.call('HDEL', meta, 'leases', 'leaseMs', 'missed')
  redis.call('DEL', KEYS[3])
elseif another(known[5], history) then
  term, terms = begin_term(stream, meta, 'history', top, term, terms, '', '', ARGV[8], history)
  respite(meta, KEYS[3])
end
known[3] = terms -- where `holder` looks

-- 3. Append, and push in the same breath
for i = 9, #ARGV, 2 do
  local final = first + ARGV[i] - 1
  local id = term .. '-' .. text(first)
  redis.call('XADD', stream, id, 'chunk', ARGV[i + 1], 'sequence', text(final), 'writer', '-')
  redis.call(ARGV[6], ARGV[7], id .. ':' .. text(final) .. '\n' .. ARGV[i + 1])
  first = final + 1
end

-- 4. Trim and keep alive
local cut = ARGV[4] ~= '0' and last + total - ARGV[4] - ARGV[5] + 2 or 0
local at = cut > 1 and holder(cut)
-- entries before the first term were written by plain XADD and have ids of any kind: they go when all of them may
if at then redis.call('XTRIM', stream, 'MINID', '=', at .. '-' .. text(cut)) end
if ARGV[3] ~= '0' then
  redis.call('EXPIRE', stream, ARGV[3])
  redis.call('EXPIRE', meta, ARGV[3])
end
return {'ok'}
