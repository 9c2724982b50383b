-- Make a checkpoint: scalars, custom state and sub-agents are copied, of the conversation only its length is kept.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] session       its id
-- ARGV[5] nonce         six hex digits
-- ARGV[6] metadata      JSON
-- ARGV[7] keep          checkpoints at most, '0' for all
--
-- Reply: {'ok', header}
-- include state_prelude
-- include checkpoint_dropping

if not version then return {'missing'} end
if log_lost() then return {'malformed', 'messages'} end
local known_scalars = redis.call('HMGET', session, 'stepCount', 'status')
if not string.match(known_scalars[1] or '', '^%d+$') then return {'malformed', 'stepCount'} end
if not known_scalars[2] then return {'malformed', 'status'} end

-- 1. The record: strings only, so that cjson keeps them exactly
local internal = {fence = 1, generation = 1, messageCount = 1, messageDigest = 1, pins = 1, staged = 1, lastGeneration = 1,
  customVersion = 1, lastCheckpoint = 1, ttl = 1}
local all, scalars = redis.call('HGETALL', session), {}
for i = 1, #all, 2 do
  if not internal[all[i]] then
    scalars[#scalars + 1] = all[i]
    scalars[#scalars + 1] = all[i + 1]
  end
end
local record = cjson.encode({session = scalars, custom = redis.call('HGETALL', custom), subagents = redis.call('HGETALL', subagents)})

-- 2. The header. It begins with what the other scripts read by pattern.
local ordinal = string.format('%.0f', redis.call('HINCRBY', session, 'lastCheckpoint', 1))
local id = 'cpv1-' .. ARGV[4] .. '-s' .. known_scalars[1] .. '-t' .. now .. '-' .. ARGV[5]
local header = '{"generation":' .. generation .. ',"messageCount":' .. count .. ',"messageDigest":"' .. digest .. '","ordinal":' .. ordinal
  .. ',"id":' .. cjson.encode(id) .. ',"sessionId":' .. cjson.encode(ARGV[4]) .. ',"version":' .. version .. ',"stepCount":'
  .. known_scalars[1] .. ',"status":' .. cjson.encode(known_scalars[2]) .. ',"createdAt":' .. now .. ',"metadata":' .. ARGV[6] .. '}'

-- 3. Store it, and let the oldest go
redis.call('ZADD', checkpoints, ordinal, id)
redis.call('HSET', records, id, header, id .. ':state', record)
pin(generation, 1)
if ARGV[7] ~= '0' then keep_newest(tonumber(ARGV[7])) end
return finish({'ok', header})
