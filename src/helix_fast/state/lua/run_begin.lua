-- Begin a run: create the session where there is none, append its messages, name the run.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] id            of the run
-- ARGV[5] run           JSON for the session's field `run`
-- ARGV[6] stream        id of the run's stream, '' for none
-- ARGV[7] before        id of the run that it takes over, '' for none   ARGV[8] stream of that run
-- ARGV[9] resumes       '1': it counts as a resumption
-- ARGV[10-11]           how many words of fields and of custom state follow, for a new session; the messages come last
-- ARGV[12...]           them: name, value, ... ; name, JSON, ... ; JSON, ...
--
-- Reply: {'ok', ..., begun ('1', '0': the run has ended before), created ('1', '0'), session, custom, subagents (each name, value, ...),
--        messages}; without the last four to a repetition | {'another', ..., id of the run that is under way}
-- include state_prelude
-- include run_reading

-- 1. May it begin
local run = session_run()
if run == nil then return {'malformed', 'run'} end
local function with_state(reply)
  reply[7], reply[8], reply[9] = redis.call('HGETALL', session), redis.call('HGETALL', custom), redis.call('HGETALL', subagents)
  reply[10] = redis.call('LRANGE', log(generation), 0, -1)
  return reply
end
if version and log_lost() then return {'malformed', 'messages'} end
if version and (ended_before(ARGV[4]) or run and run.id == ARGV[4] and run.phase ~= 'running') then
  return with_state(says('ok', '0', '0'))
end
local same = run and run.id == ARGV[4]
local begun = same and run.streamId == ARGV[6] -- by a call before this one
if run and run.phase == 'running' and not begun and not (run.id == ARGV[7] and (run.streamId or '') == ARGV[8]) then
  return says('another', run.id)
end
if begun then return with_state(says('ok', '1', '0')) end

-- 2. The session
local fields_from = 12
local custom_from = fields_from + tonumber(ARGV[10])
local messages_from = custom_from + tonumber(ARGV[11])
if not version then
  -- what an evicted session hash may have left behind
  redis.call('UNLINK', custom, subagents, checkpoints, records, steps, log('1'))
  if fence then redis.call('HSET', session, 'fence', fence) end -- the caller's, or that of the session deleted before
  push('HSET', session, fields_from, custom_from - 1)
  push('HSET', custom, custom_from, messages_from - 1)
  redis.call('HSET', session, 'stepCount', '0', 'resumeCount', '0', 'createdAt', now, 'born', born,
    'customVersion', '1')
  turn_to(new_generation(), '0', '')
end

-- 3. Its messages, once: another attempt at the same run finds them there
if not same and messages_from <= #ARGV then
  push('RPUSH', log(generation), messages_from, #ARGV)
  for i = messages_from, #ARGV do digest = redis.sha1hex(digest .. ARGV[i]) end
  turn_to(generation, string.format('%.0f', tonumber(count) + #ARGV - messages_from + 1), digest)
end
if ARGV[9] == '1' then redis.call('HINCRBY', session, 'resumeCount', 1) end
redis.call('HDEL', session, 'output', 'error')
bump('status', 'running', 'run', ARGV[5])
return with_state(finish(says('ok', '1', created and '1' or '0')))
