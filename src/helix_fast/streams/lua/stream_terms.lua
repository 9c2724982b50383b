-- Included where terms are compared or begun; not a script of its own. It needs stream_field.
--
-- A term is a stretch of the log between takeovers, resets and new histories of the server. The field `terms` of the meta
-- hash lists them, oldest first: number:first:before:tag, joined by commas. `first` is the first sequence of the term,
-- `before` the last sequence that was stored when it began (smaller than first - 1 where a hole is between), `tag` tells two
-- terms of the same number on two branches of history apart.

local KEPT_TERMS = 128

local function text(n) return string.format('%.0f', n) end

-- Which history of which server this is: a restart, a failover and a restored snapshot give another one. '' where the user
-- may not ask.
local function history_here()
  local server, replication = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
  local run = type(server) == 'string' and string.match(server, 'run_id:(%x+)')
  local id = type(replication) == 'string' and string.match(replication, 'master_replid:(%x+)')
  return run and id and string.sub(run, 1, 16) .. string.sub(id, 1, 16) or ''
end

-- Whether the log was written in another history than this one. A list without a history is older than this field.
local function another(stored, here) return here ~= '' and stored ~= here end

-- Where the list has the term of that number and tag: the last sequence stored of it, or false as its second value where it
-- is the current one. Nothing where the list does not have it.
local function end_of(terms, number, tag)
  local found
  for other, _, before, mark in string.gmatch(terms, '(%d+):(%d+):(%d+):(%w*)') do
    if found then return tonumber(before) end
    found = other == number and mark == tag
  end
  if found then return false end
end

-- The last sequence before a term of that number could have begun: the end of the largest term below it. This is where a log
-- that does not have the term, and a branch that has it, may have parted.
local function parting(terms, number, last)
  for other, first, before in string.gmatch(terms, '(%d+):(%d+):?(%d*)') do
    if tonumber(other) > tonumber(number) then return tonumber(before) or first - 1 end
  end
  return last
end

-- Begin a term behind everything stored and behind `known`, the largest sequence that the caller has seen. Its number is
-- above that of the current term, above `seen`, a term of a lost branch, and above the server's time. Writes the marker
-- entry. Returns the term and the list.
local function begin_term(stream, meta, event, top, term, terms, seen, known, tag, history)
  local time = redis.call('TIME')
  local number = math.max(time[1] * 1000000 + time[2], (tonumber(term) or 0) + 1, (tonumber(seen) or 0) + 1)
  local stored = top and tonumber(field(top[2], 'sequence')) or 0
  if top then
    number = math.max(number, tonumber(string.match(top[1], '^%d+')) + 1)
    number = number + (tonumber(string.sub(tag, 2), 36) or 0) -- clocks may agree on two branches
  end
  local base = math.max(stored, tonumber(known) or 0)
  local id = text(number) .. '-' .. text(base)
  if base > stored then
    redis.call('XADD', stream, id, 'sequence', text(base), 'event', event, 'after', text(stored))
  else
    redis.call('XADD', stream, id, 'sequence', text(base), 'event', event)
  end
  local kept = {}
  for other in string.gmatch(terms or '', '[^,]+') do kept[#kept + 1] = other end
  if #kept >= KEPT_TERMS then
    local oldest = tonumber(string.match(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1], '^%d+'))
    while #kept >= KEPT_TERMS and tonumber(string.match(kept[1], '^%d+')) < oldest do table.remove(kept, 1) end
  end
  kept[#kept + 1] = text(number) .. ':' .. text(base + 1) .. ':' .. text(stored) .. ':' .. tag
  terms = table.concat(kept, ',')
  redis.call('HSET', meta, 'term', text(number), 'terms', terms, 'history', history)
  return text(number), terms
end

-- A restored lease is already old: nobody counts as lost until one lease has passed in the new history.
local function respite(meta, lease)
  local known = redis.call('HMGET', meta, 'leases', 'leaseMs')
  if known[1] and known[2] then redis.call('SET', lease, 'history', 'PX', known[2]) end
end
