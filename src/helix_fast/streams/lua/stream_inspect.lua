-- What became of a batch: read after a refusal, a lost reply or a reconnection. Changes nothing.
--
-- KEYS[1] stream   KEYS[2] meta
-- ARGV[1] id       of the batch in question, '' for none
--
-- Reply: false where there is no stream, else
-- {status, term, epoch, terms, fence, stop, reason, top id, top sequence, id of the first entry kept, chunk at id, writer at id,
--  last sequence before the hole that the top entry marks, '' where it marks none}

-- include stream_field

local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local known = redis.call('HMGET', KEYS[2], 'status', 'term', 'epoch', 'terms', 'fence', 'stop', 'stopReason')
if not top or not known[2] then return false end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local at = ARGV[1] ~= '' and redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
return {known[1], known[2], known[3], known[4], known[5] or '', known[6] or '0', known[7] or '', top[1], field(top[2], 'sequence'),
  first[1], at and field(at[2], 'chunk') or '', at and field(at[2], 'writer') or '', field(top[2], 'after') or ''}
