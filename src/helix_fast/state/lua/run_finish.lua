-- End a run: append its messages, set output, error and status, make a checkpoint.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4-7]             session, nonce, metadata, keep: those of checkpoint_making
-- ARGV[8] id            of the run
-- ARGV[9] status        how it ended: the session's status, and the phase of its field `run`
-- ARGV[10] output       JSON, '' for none   ARGV[11] error     text, '' for none
-- ARGV[12...]           messages, JSON
--
-- Reply: {'ok', ..., header, count, digest} | {'another', ..., id of the run that is under way} | {'none', ...} it has ended before, and its
--        checkpoint is no longer kept
-- include state_prelude
-- include checkpoint_dropping
-- include checkpoint_making
-- include run_reading

-- 1. May it end
if not version then return {'missing'} end
local run = session_run()
if run == nil then return {'malformed', 'run'} end
local id = ARGV[8]
local ended = ended_before(id)
if ended then return says('ok', redis.call('HGET', records, ended) or '', count, digest) end
if run and run.id == id and run.phase ~= 'running' then return says('none') end
if run and run.id ~= id and run.phase == 'running' then return says('another', run.id) end
local parts, refusal = checkpoint_parts()
if not parts then return refusal end

-- 2. The state as the run leaves it
if #ARGV > 11 then
  push('RPUSH', log(generation), 12, #ARGV)
  for i = 12, #ARGV do digest = redis.sha1hex(digest .. ARGV[i]) end
  turn_to(generation, string.format('%.0f', tonumber(count) + #ARGV - 11), digest)
end
for i, name in ipairs({'output', 'error'}) do
  if ARGV[9 + i] == '' then redis.call('HDEL', session, name) else redis.call('HSET', session, name, ARGV[9 + i]) end
end
local stream = run and run.id == id and type(run.streamId) == 'string' and ',"streamId":' .. cjson.encode(run.streamId) or ''
bump('status', ARGV[9], 'run', '{"id":' .. cjson.encode(id) .. stream .. ',"phase":' .. cjson.encode(ARGV[9]) .. ',"checkpointId":'
  .. cjson.encode(parts.id) .. '}')

-- 3. Its checkpoint
return finish(says('ok', make_checkpoint(parts, id), count, digest))
