-- One page of the log for a reader: from a sequence when it opens, from an entry when it goes on.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
-- ARGV[1] after     last sequence seen: where to begin, where ARGV[2] is ''
-- ARGV[2] entry     id of the last entry seen, '' when opening
-- ARGV[3] epoch     of the position, '' where it has none
-- ARGV[4] count     entries at most
-- ARGV[5] ttl       seconds for a stream that is marked failed here, '0' to keep
-- ARGV[6] updated   ISO time for the reader's eye
-- ARGV[7] publish   PUBLISH or SPUBLISH
-- ARGV[8] channel   of pushes to readers
-- ARGV[9] control   channel on which the writers' processes listen
-- ARGV[10] joined   what they are told, '' for nothing: that this reader has joined the channel of pushes
-- ARGV[11] size      bytes of entries after which the page ends
--
-- ARGV[12] number    of the position's term, '' where it has none
-- ARGV[13] tag       of the position's term
-- ARGV[14] new tag   of a term that begins here: letters and digits, made at random
-- ARGV[15] own       '1' where this reader was itself given the chunk at ARGV[1]
--
-- Reply: false where there is no stream | {'reset', epoch}
--   | {'page', epoch, base, status, error, 1 where the log goes on behind the page or false, entries, terms}
--   | {'gap', epoch, resume, last, terms}: the position is not of this log; a reader that skips what is lost goes on after `resume`
-- The status is 'lost' where the producer's loss was found and could not be written behind the log's top.
-- It is 'missed', with milliseconds as the error, where the lease has just been found gone.
-- A producer whose lease ran out without an end is marked here, by the first reader that looks after a respite. Where this
-- reader was given chunks that the log no longer holds, a term begins behind them.

-- include stream_field
-- include stream_terms

local RESPITE_MS = 2000

local function number(text) -- decimal text as other readers understand it: foreign entries may have anything there
  return text and #text < 17 and string.match(text, '^%d+$') or '0'
end

local sealed -- whether the log may have sealed entries

local function begin(fields) -- sequence of an entry's first chunk
  local last, lines, body, ours = 0, 0, nil, false
  for i = 1, #fields, 2 do
    if fields[i] == 'sequence' then last = tonumber(number(fields[i + 1])) end
    if fields[i] == 'chunk' then body = fields[i + 1] end
    if fields[i] == 'writer' then ours = true end
  end
  local count = body and sealed and field(fields, 'sealed')
  if count then
    lines = tonumber(number(count))
  elseif body then
    lines = ours and select(2, string.gsub(body, '\n', '')) + 1 or 1
  end
  return last - lines + 1
end

-- Before the page is read: what is appended behind it is pushed, or its writer has heard of this
if ARGV[10] ~= '' then redis.pcall('PUBLISH', ARGV[9], ARGV[10]) end -- who may not publish may still read

local known = redis.call('HMGET', KEYS[2], 'epoch', 'base', 'status', 'terms', 'leases', 'term', 'error', 'history', 'missed', 'leaseMs')
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not top then return false end
if ARGV[3] ~= '' and known[1] and known[1] ~= ARGV[3] then return {'reset', known[1]} end
local after, last = tonumber(ARGV[1]), tonumber(number(field(top[2], 'sequence')))
-- an entry of another store may have any sequence, or none: it says nothing about a reader that goes on
if ARGV[2] ~= '' and field(top[2], 'chunk') and not field(top[2], 'writer') then last = nil end
local over = known[3] == 'ended' or known[3] == 'failed'

-- 1. A position of a lost branch: behind the end of its term, or of a term that this log never had
local term, terms = known[6], known[4] or ''
sealed = string.sub(terms, 1, 7) == 'sealed,'
local ended = false
if ARGV[12] ~= '' then ended = end_of(terms, ARGV[12], ARGV[13]) end
local resume
if ended == nil then
  resume = math.min(after, parting(terms, ARGV[12], last or after))
elseif (ended or last or after) < after then
  resume = ended or last
end
if resume then
  local beyond = ended == false or ended == nil and tonumber(ARGV[12]) >= tonumber(term or 0)
  if term and beyond and ARGV[15] == '1' and not over then
    term, terms = begin_term(KEYS[1], KEYS[2], 'history', top, term, terms, ARGV[12], after, ARGV[14], history_here())
    respite(KEYS[2], KEYS[3])
    redis.call(ARGV[7], ARGV[8], '!')
  end
  return {'gap', known[1] or '', text(resume), text(last or after), terms}
end

-- 2. A lost producer
local history = known[5] and known[3] == 'active' and redis.call('EXISTS', KEYS[3]) == 0 and history_here()
if history and another(known[8], history) then
  term, terms = begin_term(KEYS[1], KEYS[2], 'history', top, term, terms, '', '', ARGV[14], history)
  respite(KEYS[2], KEYS[3])
  redis.call(ARGV[7], ARGV[8], '!')
elseif history and not known[9] then
  -- The first to find it gone gives a respite: the server may have been away, and the producer renews when both are back
  known[7] = text(math.min(tonumber(known[10]) or RESPITE_MS, RESPITE_MS))
  redis.call('HSET', KEYS[2], 'missed', '1')
  redis.call('SET', KEYS[3], 'missed', 'PX', known[7])
  known[3] = 'missed'
elseif history then
  local final, reason = number(field(top[2], 'sequence')), 'the producer was lost'
  -- refused behind an entry of another store whose id is the largest there is
  local added = redis.pcall('XADD', KEYS[1], '18446744073709551615-' .. final, 'sequence', final, 'event', 'lost', 'error', reason)
  redis.call('HSET', KEYS[2], 'status', 'failed', 'error', reason, 'updatedAt', ARGV[6])
  redis.call('HDEL', KEYS[2], 'leases', 'leaseMs', 'missed')
  if tonumber(ARGV[5]) > 0 then
    redis.call('EXPIRE', KEYS[1], ARGV[5])
    redis.call('EXPIRE', KEYS[2], ARGV[5])
  end
  redis.call(ARGV[7], ARGV[8], '!')
  known[3], known[7] = type(added) == 'table' and added.err and 'lost' or 'failed', reason
end

-- 3. Where to begin: the entry that holds the sequence begins at or before it, in the term that had begun by then
local from = '-'
if ARGV[2] ~= '' then
  from = '(' .. ARGV[2]
  -- sealed since the reader was there: the entry with the next chunk begins at or before the one that it has read
  local entry = sealed and redis.call('XREVRANGE', KEYS[1], ARGV[2], '-', 'COUNT', 1)[1]
  if entry and field(entry[2], 'sealed') and tonumber(number(field(entry[2], 'sequence'))) > after then from = entry[1] end
elseif terms ~= '' and after > 0 then
  local wanted, holder = after + 1, nil
  for number, first in string.gmatch(terms, '(%d+):(%d+)[^,]*') do
    if tonumber(first) <= wanted then holder = number end
  end
  if holder then
    local id, count = holder .. '-' .. string.format('%.0f', wanted), 1
    -- plain XADD with '*' behind our entries makes ids below the sequences: then the holder is further back
    while id do
      local entries = redis.call('XREVRANGE', KEYS[1], id, '-', 'COUNT', count)
      id = nil
      for _, entry in ipairs(entries) do
        if begin(entry[2]) <= wanted then
          from, id = entry[1], nil
          break
        end
        id, count = '(' .. entry[1], 64
      end
    end
  end
end

-- 4. The page, cut where it has enough bytes: entries of 64 KiB would make it as long as a reader cannot hold. A sealed entry
-- is a page of chunks by itself: a second one is not read with it
local entries, wanted = {}, sealed and math.min(4, ARGV[4]) or tonumber(ARGV[4])
if from ~= '(18446744073709551615-18446744073709551615' then -- behind the largest id there is nothing, and no range
  entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', wanted)
end
local count, size, inflated = #entries, 0, false
local more = count == wanted
for i = 1, count do
  if sealed and field(entries[i][2], 'sealed') then
    if inflated then size = math.huge end
    inflated = true
  end
  if size > tonumber(ARGV[11]) then
    more, entries[i] = true, nil
  else
    for _, value in ipairs(entries[i][2]) do size = size + #value end
  end
end
return {'page', known[1] or '', known[2] or '0', known[3] or 'active', known[7] or '', more, entries, terms}
