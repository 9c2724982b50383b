-- Write a part of the sealed log of an ended stream into a draft; with the last part, the draft replaces the log.
--
-- KEYS[1] stream   KEYS[2] meta
-- KEYS[3] draft     of this caller; it expires unless more follows soon
-- ARGV[1] epoch     of the log that was read
-- ARGV[2] terms     its list
-- ARGV[3] first     id of its first entry
-- ARGV[4] end       id of its last entry, the end of the stream
-- ARGV[5] length    its entries, where ARGV[7] is '1'
-- ARGV[6] offset    entries of the parts before this one
-- ARGV[7] last      '1' where the draft is complete with this part
-- ARGV[8] keep      milliseconds for which the draft waits for more
-- ARGV[9] updated   ISO time of the last chunk where that is after the end, else ''
-- ARGV[10...]       the entries: for each its id, the number of its names and values, and these
--
-- Reply: 'more' | 'sealed' (by this call or another one) | 'changed': the log is not the one that was read, or the draft is gone
-- Idempotent: a part that is in the draft already is not added again.

local stream, meta, draft = KEYS[1], KEYS[2], KEYS[3]
local known = redis.call('HMGET', meta, 'epoch', 'terms')
if known[1] == ARGV[1] and known[2] == 'sealed,' .. ARGV[2] and redis.call('EXISTS', stream) == 1 then
  redis.call('UNLINK', draft)
  return 'sealed'
end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local same = first and first[1] == ARGV[3] and top[1] == ARGV[4]
if ARGV[7] == '1' then same = same and redis.call('XLEN', stream) == tonumber(ARGV[5]) end

local parts, at = {}, 10
while at <= #ARGV do
  local count = tonumber(ARGV[at + 1])
  parts[#parts + 1] = {ARGV[at], unpack(ARGV, at + 2, at + 1 + count)}
  at = at + 2 + count
end
local have, offset = redis.call('XLEN', draft), tonumber(ARGV[6])
if not same or known[1] ~= ARGV[1] or known[2] ~= ARGV[2] or have ~= offset and have ~= offset + #parts then
  redis.call('UNLINK', draft)
  return 'changed'
end
if have == offset then
  for _, part in ipairs(parts) do redis.call('XADD', draft, unpack(part)) end
end
if ARGV[7] ~= '1' then
  redis.call('PEXPIRE', draft, ARGV[8])
  return 'more'
end
local left = redis.call('PTTL', stream)
redis.call('UNLINK', stream) -- frees it beside the server's own thread, which RENAME would not
redis.call('RENAME', draft, stream)
if left >= 0 then redis.call('PEXPIRE', stream, math.max(left, 1)) else redis.call('PERSIST', stream) end
redis.call('HSET', meta, 'terms', 'sealed,' .. ARGV[2])
if ARGV[9] ~= '' then redis.call('HSET', meta, 'updatedAt', ARGV[9]) end
return 'sealed'
