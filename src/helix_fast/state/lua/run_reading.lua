-- Included by the scripts of runs, after state_prelude; not a script of its own.
--
-- The session's field `run` is JSON of {id, streamId, phase, checkpointId}, all of them strings, which cjson keeps exactly.

-- The run that the session names: a table, false for none, nil where the field is not what we wrote.
local function session_run()
  local stored = redis.call('HGET', session, 'run')
  if not stored then return false end
  local readable, run = pcall(cjson.decode, stored)
  if not readable or type(run) ~= 'table' or type(run.id) ~= 'string' or type(run.phase) ~= 'string' then return nil end
  return run
end

local function ended_before(id) -- the checkpoint of a run that has ended, as long as it is kept; else nil
  return redis.call('HGET', records, 'run:' .. id) or nil
end
