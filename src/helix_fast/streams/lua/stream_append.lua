-- Append a batch at whatever the next sequence is: for a while, where several processes keep colliding on one stream.
--
-- KEYS[1] stream   KEYS[2] meta
-- ARGV[1] term      the writer's term
-- ARGV[2] count     chunks in the batch
-- ARGV[3] body      the chunks, one a line
-- ARGV[4] nonce     of this batch
-- ARGV[5] from      id at which a repeated call begins to look for itself; its sequence is not behind the batch
-- ARGV[6] minid     what to trim, '' for nothing
-- ARGV[7] publish   PUBLISH or SPUBLISH
-- ARGV[8] channel   of pushes to readers
-- ARGV[9] repeated  '1' where an earlier call's reply was lost
-- ARGV[10] tag      of the writer's term
--
-- Reply: id of the batch's entry | false where stream_rejoin must tell why not
-- | 'unknown' where the entry of a lost reply would have been trimmed by now
-- Idempotent by the nonce: a batch that is there already is found and not added again.

-- include stream_field

local term, count = ARGV[1], tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[2], 'term', 'status', 'terms')
local tag = known[3] and string.match(known[3], ':(%a%w*)$') or ''
if known[1] ~= term or tag ~= ARGV[10] or known[2] == 'ended' or known[2] == 'failed' then return false end
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not top then return false end
local last = tonumber(field(top[2], 'sequence'))
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[5], '+')) do
  if field(entry[2], 'writer') == ARGV[4] then return entry[1] end
end
if ARGV[9] == '1' then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]
  if tonumber(string.match(oldest, '%d+$')) > tonumber(string.match(ARGV[5], '%d+$')) then return 'unknown' end
end
local first, final = string.format('%.0f', last + 1), string.format('%.0f', last + count)
local id = term .. '-' .. first
if ARGV[6] == '' then
  redis.call('XADD', KEYS[1], 'NOMKSTREAM', id, 'chunk', ARGV[3], 'sequence', final, 'writer', ARGV[4])
else
  redis.call('XADD', KEYS[1], 'NOMKSTREAM', 'MINID', '=', ARGV[6], id, 'chunk', ARGV[3], 'sequence', final, 'writer', ARGV[4])
end
-- the batch is stored, whatever becomes of its push
redis.pcall(ARGV[7], ARGV[8], id .. ':' .. final .. '\n' .. ARGV[3])
return id
