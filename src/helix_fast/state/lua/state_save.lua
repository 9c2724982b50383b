-- Create a session, or store its whole state: of the conversation only what is new.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] mode          create or save
-- ARGV[5] expected      version that must be stored ('0': no session), '' for any
-- ARGV[6] whole         '1': the given messages are all there are; '0': they follow the log of
-- ARGV[7] count         messages with
-- ARGV[8] digest        which says what they are
-- ARGV[9] count         of all messages   ARGV[10] digest of them
-- ARGV[11-13]           how many words of fields, of custom state and of sub-agents follow; the messages come last
-- ARGV[14...]           them: name, value, ... ; name, JSON, ... ; sub-agent's session, JSON, ... ; JSON, ...
--
-- Reply: {'ok', ..., created, updated} | {'exists', ...} | {'conflict', ...}
--        | {'differs', ..., count, digest}: the stored log is another one; nothing was changed
-- include state_prelude

-- 1. May it be written
if ARGV[4] == 'create' and version then return says('exists') end
if ARGV[5] ~= '' and ARGV[5] ~= (version or '0') then return says('conflict') end

-- 2. The conversation
local fields_from = 14
local custom_from = fields_from + tonumber(ARGV[11])
local subagents_from = custom_from + tonumber(ARGV[12])
local messages_from = subagents_from + tonumber(ARGV[13])
local whole = ARGV[6] == '1' or not version and ARGV[7] == '0'
local lost = version and log_lost()
if not whole and lost then return says('differs', '0', '?') end -- the whole conversation is sent then, and that mends it
if not whole and (count ~= ARGV[7] or digest ~= ARGV[8]) then return says('differs', count or '0', digest or '') end
if not version then
  -- what an evicted session hash may have left behind
  redis.call('UNLINK', custom, subagents, checkpoints, records, steps, log('1'))
  if fence then redis.call('HSET', session, 'fence', fence) end -- the caller's, or that of the session deleted before
end
if not whole then
  push('RPUSH', log(generation), messages_from, #ARGV)
  turn_to(generation, ARGV[9], ARGV[10])
elseif lost or not (version and count == ARGV[9] and digest == ARGV[10]) then
  turn_to(version and not lost and count == '0' and generation or new_generation(), ARGV[9], ARGV[10])
  push('RPUSH', log(generation), messages_from, #ARGV)
end

-- 3. Everything else is put in place of what was there
redis.call('HDEL', session, 'output', 'error', 'parentSessionId', 'metadata', 'extra')
push('HSET', session, fields_from, custom_from - 1)
redis.call('HSETNX', session, 'createdAt', now)
if created then redis.call('HSET', session, 'born', born) end
redis.call('UNLINK', custom, subagents)
push('HSET', custom, custom_from, subagents_from - 1)
for i = subagents_from, messages_from - 1, 2 do
  local ordinal = (i - subagents_from) / 2 -- a hash keeps no order
  redis.call('HSET', subagents, ARGV[i], '{"ordinal":' .. ordinal .. ',' .. string.sub(ARGV[i + 1], 2))
end
redis.call('HINCRBY', session, 'customVersion', 1)
bump()
return finish(says('ok', redis.call('HGET', session, 'createdAt'), now))
