-- Append messages to the conversation.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4...]            messages, JSON
--
-- Reply: {'ok', ..., count, digest}
-- include state_prelude

if not version then return {'missing'} end
if log_lost() then return {'malformed', 'messages'} end
push('RPUSH', log(generation), 4, #ARGV)
for i = 4, #ARGV do digest = redis.sha1hex(digest .. ARGV[i]) end
turn_to(generation, string.format('%.0f', tonumber(count) + #ARGV - 3), digest)
bump()
return finish(says('ok', count, digest))
