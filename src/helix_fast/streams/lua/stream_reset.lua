-- Start a new life of a stream: a new, larger term and epoch, no chunks; sequences go on growing.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- KEYS[4] index     the shard that lists the stream; the stream's own key: it is listed already, or after this
-- ARGV[1] operation   id of this call
-- ARGV[2] token       fencing token in decimal, '' for none
-- ARGV[3] ttl         seconds, '0' to keep
-- ARGV[4] updated     ISO time for the reader's eye
-- ARGV[5] publish     PUBLISH or SPUBLISH
-- ARGV[6] channel     of pushes to readers
-- ARGV[7] tag         of the term that begins: letters and digits, made at random
--
-- Reply: {'reset', epoch} | {'none'} | {'stale', token seen}. Idempotent by the operation.

-- include stream_field
-- include token_less
-- include base36
-- include stream_terms
-- include listing

local stream, meta = KEYS[1], KEYS[2]
local known = redis.call('HMGET', meta, 'term', 'epoch', 'fence', 'resetBy', 'createdAt')
local top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if not top then return {'none'} end
if known[4] == ARGV[1] then return {'reset', known[2]} end
local token, fence = ARGV[2], known[3]
if token ~= '' and fence and less(token, fence) then return {'stale', fence} end

local ttl = tonumber(ARGV[3])
if KEYS[4] ~= stream then list_id(KEYS[4], ttl, string.match(stream, '{(.*)}$'), false) end
local last = field(top[2], 'sequence') or '0'
local history = history_here()
-- the key itself must go: an end entry's id would refuse everything after it
redis.call('DEL', stream, meta, KEYS[3])
local ended = { string.gsub(top[1], '^18446744073709551615', '0'), top[2] }
local term = begin_term(stream, meta, 'reset', ended, known[1], '', '', '', ARGV[7], history)
local epoch = base36(tonumber(term)) .. string.lower(ARGV[7])
redis.call('HSET', meta, 'status', 'active', 'epoch', epoch, 'base', last, 'resetBy', ARGV[1], 'createdAt', known[5] or ARGV[4],
  'updatedAt', ARGV[4])
if token ~= '' then fence = token end
if fence then redis.call('HSET', meta, 'fence', fence) end
if ttl > 0 then
  redis.call('EXPIRE', stream, ttl)
  redis.call('EXPIRE', meta, ttl)
end
redis.call(ARGV[5], ARGV[6], '!')
return {'reset', epoch}
