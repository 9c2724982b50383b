-- Apply what a step has staged, in the order of the timestamps, and forget it.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- KEYS[10] staging       LIST of the step; see staging_add
-- ARGV[4] step          its id
-- ARGV[5] custom        version of the custom state from which the changes were computed, '' where none were
-- ARGV[6] digest        of what was staged then
-- ARGV[7...]            the computed changes: kind, name, JSON, ...
--
-- Reply: {'ok', ..., number applied, warnings...} | {'nothing', ...}: nothing is staged, nothing was changed
--        | {'compute', ..., version of the custom state, digest, custom (name, JSON, ...), staged}: there are patches, which are
--          computed by the caller; nothing was changed
-- include state_prelude
-- include state_merging

if not version then return {'missing'} end
local lines = redis.call('LRANGE', KEYS[10], 0, -1)
if #lines == 0 then return says('nothing') end

-- 1. What is to be done
local changes, patched = {}, false
for i, line in ipairs(lines) do
  local readable, change = pcall(cjson.decode, line) -- strings only, which it keeps exactly
  if not readable or type(change) ~= 'table' or type(change.toolCallId) ~= 'string' or not tonumber(change.timestamp)
    or change.merge and not words(change.merge, 3) then
    return {'malformed', KEYS[10]}
  end
  if not change.merge then patched = true end
  changes[i] = {tonumber(change.timestamp), i, change}
end
if patched then
  local base = redis.call('HGET', session, 'customVersion') or '0'
  local stamp = redis.sha1hex(table.concat(lines, '\n'))
  if ARGV[5] ~= base or ARGV[6] ~= stamp then return says('compute', base, stamp, redis.call('HGETALL', custom), lines) end
end

-- 2. Do it
if patched then
  for i = 7, #ARGV, 3 do merge(ARGV[i], ARGV[i + 1], ARGV[i + 2], '') end
else
  table.sort(changes, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  for _, entry in ipairs(changes) do
    local change = entry[3]
    for i = 1, #change.merge, 3 do merge(change.merge[i], change.merge[i + 1], change.merge[i + 2], change.toolCallId) end
  end
end
redis.call('UNLINK', KEYS[10])
redis.call('SREM', steps, ARGV[4])
staged = redis.call('SCARD', steps)
redis.call('HINCRBY', session, 'customVersion', 1)
bump('staged', staged)
return finish(with_warnings(says('ok', tostring(#lines))))
