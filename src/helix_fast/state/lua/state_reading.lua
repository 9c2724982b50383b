-- Included by the scripts that read a session without changing it; not a script of its own.
--
-- KEYS[1] session   HASH, see state_prelude
--
-- Reply of all of them: false without a session | {'malformed', field} | 'ok', the session's version, the time of its creation
-- (`says`), and more.

local version, born

local function says(...)
  return {'ok', version, born, ...}
end

-- The length of the conversation and the key of its log; or nothing, and the reply in place of an answer: false without a
-- session, {'malformed', field} where what is stored is not what we wrote. No script answers from half a session.
local function conversation()
  local known = redis.call('HMGET', KEYS[1], 'sessionId', 'version', 'generation', 'messageCount', 'born', 'createdAt')
  version, born = known[2], known[5] or known[6] or ''
  if redis.call('EXISTS', KEYS[1]) == 0 then return nil, false end
  if not known[1] or not string.find(KEYS[1], '{' .. known[1] .. '}', 1, true) then return nil, {'malformed', 'sessionId'} end
  for i, name in ipairs({false, 'version', 'generation', 'messageCount'}) do
    if name and not string.match(known[i] or '', '^%d+$') then return nil, {'malformed', name} end
  end
  local log = KEYS[1] .. ':messages:' .. known[3]
  local length = redis.call('LLEN', log)
  if length ~= tonumber(known[4]) then return nil, {'malformed', 'messages'} end
  return length, log
end
