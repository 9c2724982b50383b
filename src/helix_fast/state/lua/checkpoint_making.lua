-- Included by the scripts that make a checkpoint, after state_prelude and checkpoint_dropping; not a script of its own.
--
-- ARGV[4] session       its id
-- ARGV[5] nonce         six hex digits
-- ARGV[6] metadata      JSON
-- ARGV[7] keep          checkpoints at most, '0' for all

local internal = {fence = 1, generation = 1, messageCount = 1, messageDigest = 1, pins = 1, staged = 1, lastGeneration = 1,
  customVersion = 1, lastCheckpoint = 1, ttl = 1, born = 1}

-- What a checkpoint needs of the session; nothing, and the reply in place of an answer, where that is not what we wrote.
local function checkpoint_parts()
  if log_lost() then return nil, {'malformed', 'messages'} end
  local scalars = redis.call('HMGET', session, 'stepCount', 'status')
  if not string.match(scalars[1] or '', '^%d+$') then return nil, {'malformed', 'stepCount'} end
  if not scalars[2] then return nil, {'malformed', 'status'} end
  return {step = scalars[1], id = 'cpv1-' .. ARGV[4] .. '-s' .. scalars[1] .. '-t' .. now .. '-' .. ARGV[5]}
end

-- Make the checkpoint of the session as it is now; returns its header. `run`: of the run that it ends, or nil.
local function make_checkpoint(parts, run)
  -- 1. The record: strings only, so that cjson keeps them exactly
  local all, scalars, status = redis.call('HGETALL', session), {}, ''
  for i = 1, #all, 2 do
    if not internal[all[i]] then
      scalars[#scalars + 1] = all[i]
      scalars[#scalars + 1] = all[i + 1]
    end
    if all[i] == 'status' then status = all[i + 1] end
  end
  local record = cjson.encode({session = scalars, custom = redis.call('HGETALL', custom), subagents = redis.call('HGETALL', subagents)})

  -- 2. The header. It begins with what the other scripts read by pattern.
  local ordinal = string.format('%.0f', redis.call('HINCRBY', session, 'lastCheckpoint', 1))
  local header = '{"generation":' .. generation .. ',"messageCount":' .. count .. ',"messageDigest":"' .. digest .. '","ordinal":' .. ordinal
    .. ',"id":' .. cjson.encode(parts.id) .. ',"sessionId":' .. cjson.encode(ARGV[4]) .. ',"version":' .. version .. ',"stepCount":'
    .. parts.step .. ',"status":' .. cjson.encode(status) .. ',"createdAt":' .. now .. ',"metadata":' .. ARGV[6]
    .. (run and ',"runId":' .. cjson.encode(run) or '') .. '}'

  -- 3. Store it, and let the oldest go
  redis.call('ZADD', checkpoints, ordinal, parts.id)
  redis.call('HSET', records, parts.id, header, parts.id .. ':state', record)
  if run then redis.call('HSET', records, parts.id .. ':run', run, 'run:' .. run, parts.id) end
  pin(generation, 1)
  if ARGV[7] ~= '0' then keep_newest(tonumber(ARGV[7])) end
  return header
end
