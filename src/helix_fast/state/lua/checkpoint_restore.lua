-- Make the state what it was at a checkpoint.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] id            of the checkpoint
--
-- Reply: {'ok', ..., updated, count, digest, run, header, record, messages}; without the last three to a
--        repetition | {'none', ...} no such checkpoint. The run is that of the session, '' for none: a restore leaves it.
-- include state_prelude

if not version then return {'missing'} end
if not redis.call('ZSCORE', checkpoints, ARGV[4]) then return says('none') end
local stored = redis.call('HMGET', records, ARGV[4], ARGV[4] .. ':state')
local number, messages, chain = string.match(stored[1] or '', '^{"generation":(%d+),"messageCount":(%d+),"messageDigest":"([^"]*)"')
local readable, record = pcall(cjson.decode, stored[2] or '')
if not number or not readable or type(record) ~= 'table' or not words(record.session, 2) or not words(record.custom, 2)
  or not words(record.subagents, 2) then
  return {'malformed', ARGV[4]}
end
local held = {}
for i = 1, #record.session, 2 do held[record.session[i]] = record.session[i + 1] end
for _, name in ipairs({'sessionId', 'agentType', 'status', 'stepCount'}) do
  if not held[name] then return {'malformed', ARGV[4]} end
end
local length = redis.call('LLEN', log(number))
if length < tonumber(messages) then return {'malformed', 'messages'} end

-- 1. The conversation: on in its own log where that ends there, else in a copy, as later checkpoints need the rest
if length == tonumber(messages) then
  turn_to(number, messages, chain)
else
  local target = new_generation()
  if messages ~= '0' then
    redis.call('COPY', log(number), log(target), 'REPLACE')
    redis.call('LTRIM', log(target), 0, tonumber(messages) - 1)
  end
  turn_to(target, messages, chain)
end

-- 2. Everything else
local scalars = {}
for i = 1, #record.session, 2 do
  if record.session[i] ~= 'version' and record.session[i] ~= 'updatedAt' and record.session[i] ~= 'run' then
    scalars[#scalars + 1] = record.session[i]
    scalars[#scalars + 1] = record.session[i + 1]
  end
end
redis.call('HDEL', session, 'output', 'error', 'parentSessionId', 'metadata', 'extra')
redis.call('UNLINK', custom, subagents)
set(session, scalars)
set(custom, record.custom)
set(subagents, record.subagents)
redis.call('HINCRBY', session, 'customVersion', 1)
bump()
local reply = finish(says('ok', now, count, digest, redis.call('HGET', session, 'run') or ''))
reply[9], reply[10] = stored[1], stored[2]
reply[11] = redis.call('LRANGE', log(generation), 0, -1)
return reply
