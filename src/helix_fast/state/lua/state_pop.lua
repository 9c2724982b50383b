-- Take the newest messages off the conversation.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] number        how many
-- ARGV[5] expected      version that must be stored, '' for any
--
-- Reply: {'ok', ..., count, digest, the messages, oldest first...} | {'conflict', ...}
-- include state_prelude
-- include state_cutting

if not version then return {'missing'} end
if ARGV[5] ~= '' and ARGV[5] ~= version then return says('conflict') end
if log_lost() then return {'malformed', 'messages'} end
local popped = redis.call('LRANGE', log(generation), '-' .. ARGV[4], -1)
if #popped > 0 then
  cut(tonumber(count) - #popped)
  bump()
end
local reply = says('ok', count, digest)
for _, message in ipairs(popped) do reply[#reply + 1] = message end
return finish(reply)
