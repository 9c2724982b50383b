-- What became of a batch, and of what was acknowledged before: asked after a refusal, a lost reply or a reconnection. Begins
-- a term where the server's history is another one, where the caller's term is of a lost branch, and where the caller has
-- seen more than the log holds.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- ARGV[1] number     of the caller's term
-- ARGV[2] tag        of the caller's term
-- ARGV[3] seen       largest sequence that the caller knows of that term
-- ARGV[4] token      fencing token in decimal, '' for none
-- ARGV[5] fence      that the caller saw when it joined, '' for none
-- ARGV[6] id         of the batch in question, '' for none
-- ARGV[7] new tag    of a term that begins here: letters and digits, made at random
-- ARGV[8] moved      '1' where the connection is another one than that on which the caller joined its term
-- ARGV[9] publish    PUBLISH or SPUBLISH
-- ARGV[10] channel   of pushes to readers
-- ARGV[11] epoch     of the caller's term: in another one it begins nothing
--
-- Reply: {'none', history} where there is no stream, else
-- {status, term, epoch, terms, fence ('' for none), stop, reason, last sequence, id of the first entry kept, chunk at id, writer at
-- id, history ('' where it was not asked for), fields of the sealed entry that holds id or false}
-- Repeating it after a lost reply is safe: it finds the term that the first one began.

-- include stream_field
-- include token_less
-- include stream_terms

local stream, meta = KEYS[1], KEYS[2]
local moved = ARGV[8] == '1'
local history = moved and history_here() or '' -- on the same connection it is the same
local top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local known = redis.call('HMGET', meta, 'status', 'term', 'epoch', 'terms', 'fence', 'stop', 'stopReason', 'history')
if not top or not known[2] then return {'none', history} end
local status, term, terms, fence = known[1], known[2], known[4], known[5] or ''
local token = ARGV[4]

-- Whoever is fenced off, or comes after the end, begins nothing
local fenced = token ~= '' and fence ~= '' and less(token, fence) or token == '' and ARGV[5] ~= fence and less(ARGV[5], fence)
if status ~= 'ended' and status ~= 'failed' and not fenced and known[3] == ARGV[11] then
  local ended = end_of(terms, ARGV[1], ARGV[2])
  local last = tonumber(field(top[2], 'sequence')) or 0
  local event
  if token ~= '' and less(fence, token) then
    event = 'takeover' -- it was taken over on a branch that was lost
  elseif another(known[8], history) or moved and history == '' and ended == false then
    event = 'history'
  elseif ended == nil and tonumber(ARGV[1]) >= tonumber(term) or tonumber(ARGV[3]) > last then
    event = 'history'
  end
  if event then
    term, terms = begin_term(stream, meta, event, top, term, terms, ARGV[1], ARGV[3], ARGV[7], history)
    if event == 'takeover' then
      redis.call('HSET', meta, 'fence', token)
      redis.call('HDEL', meta, 'leases', 'leaseMs', 'missed')
      redis.call('DEL', KEYS[3])
      fence = token
    else
      respite(meta, KEYS[3])
    end
    redis.call(ARGV[9], ARGV[10], '!')
    top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  end
end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local at = ARGV[6] ~= '' and redis.call('XRANGE', stream, ARGV[6], ARGV[6])[1]
local holder = false
if ARGV[6] ~= '' and string.sub(terms, 1, 7) == 'sealed,' then
  local entry = redis.call('XREVRANGE', stream, ARGV[6], '-', 'COUNT', 1)[1]
  local same = entry and string.match(entry[1], '^%d+') == string.match(ARGV[6], '^%d+')
  holder = same and field(entry[2], 'sealed') and entry[2] or false
end
return {status, term, known[3], terms, fence, known[6] or '0', known[7] or '', field(top[2], 'sequence'), first[1],
  at and field(at[2], 'chunk') or '', at and field(at[2], 'writer') or '', history, holder}
