-- Append chunks at a sequence that the caller names (RedisResumableStorage).
--
-- KEYS[1] stream   KEYS[2] meta
-- ARGV[1] first     sequence of the first chunk
-- ARGV[2] token     fencing token in decimal, '' for none
-- ARGV[3] ttl       seconds, '0' to keep
-- ARGV[4] keep      chunks to keep at least, '0' for all
-- ARGV[5] longest   chunks that an entry has at most
-- ARGV[6] publish   PUBLISH or SPUBLISH
-- ARGV[7] channel   of pushes to readers
-- ARGV[8..]         pairs of (chunks in the entry, body of the entry)
--
-- Reply: {'ok'} | {'none'} | {'closed', status} | {'stale', token seen} | {'conflict', expected sequence}
-- Idempotent: chunks that are the stream's last already, byte for byte, are not added again.

local function field(entry, name)
  for i = 1, #entry, 2 do
    if entry[i] == name then return entry[i + 1] end
  end
end

local function text(n) return string.format('%.0f', n) end

local stream, meta = KEYS[1], KEYS[2]
local known = redis.call('HMGET', meta, 'status', 'term', 'terms', 'fence')
local top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if not top or not known[2] then return {'none'} end
local token, fence = ARGV[2], known[4]
if token ~= '' and fence and (#token < #fence or #token == #fence and token < fence) then return {'stale', fence} end

-- 1. A repeated call: the same bytes are there already, as the same entries or as the last line of one
local first, last = tonumber(ARGV[1]), tonumber(field(top[2], 'sequence'))
local term, total = known[2], 0
for i = 8, #ARGV, 2 do total = total + ARGV[i] end
if first + total - 1 == last then
  local same, at = true, first
  for i = 8, #ARGV, 2 do
    local entry = redis.call('XRANGE', stream, term .. '-' .. text(at), term .. '-' .. text(at))[1]
    if not entry or field(entry[2], 'chunk') ~= ARGV[i + 1] then same = false end
    at = at + ARGV[i]
  end
  if not same and total == 1 then
    local body = field(top[2], 'chunk') or ''
    same = body == ARGV[9] or string.sub(body, -#ARGV[9] - 1) == '\n' .. ARGV[9]
  end
  if same then return {'ok'} end
end
if known[1] == 'ended' or known[1] == 'failed' then return {'closed', known[1]} end
if first ~= last + 1 then return {'conflict', text(last + 1)} end

-- 2. Append, and push in the same breath
for i = 8, #ARGV, 2 do
  local final = first + ARGV[i] - 1
  local id = term .. '-' .. text(first)
  redis.call('XADD', stream, id, 'chunk', ARGV[i + 1], 'sequence', text(final), 'writer', '-')
  redis.call(ARGV[6], ARGV[7], id .. ':' .. text(final) .. '\n' .. ARGV[i + 1])
  first = final + 1
end

-- 3. Trim and keep alive
local cut = ARGV[4] ~= '0' and last + total - ARGV[4] - ARGV[5] + 2 or 0
if cut > 1 then
  local holder = term
  for number, begin in string.gmatch(known[3], '(%d+):(%d+)') do
    if tonumber(begin) <= cut then holder = number end
  end
  redis.call('XTRIM', stream, 'MINID', '=', holder .. '-' .. text(cut))
end
if token ~= '' then redis.call('HSET', meta, 'fence', token) end
if ARGV[3] ~= '0' then
  redis.call('EXPIRE', stream, ARGV[3])
  redis.call('EXPIRE', meta, ARGV[3])
end
return {'ok'}
