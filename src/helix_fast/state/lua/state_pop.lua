-- Take the newest messages off the conversation.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] number        how many
-- ARGV[5] expected      version that must be stored, '' for any
--
-- Reply: {'ok', count, digest, the messages, oldest first...} | {'conflict', version}
-- include state_prelude
-- include state_cutting

if not version then return {'missing'} end
if ARGV[5] ~= '' and ARGV[5] ~= version then return {'conflict', version} end
if log_lost() then return {'malformed', 'messages'} end
local popped = redis.call('LRANGE', log(generation), '-' .. ARGV[4], -1)
if #popped > 0 then
  cut(tonumber(count) - #popped)
  bump()
end
local reply = {'ok', count, digest}
for i, message in ipairs(popped) do reply[3 + i] = message end
return finish(reply)
