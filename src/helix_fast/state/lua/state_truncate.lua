-- Keep only the oldest messages.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] keep          how many
--
-- Reply: {'ok', ..., count, digest}
-- include state_prelude
-- include state_cutting

if not version then return {'missing'} end
if log_lost() then return {'malformed', 'messages'} end
if tonumber(ARGV[4]) < tonumber(count) then cut(tonumber(ARGV[4])) end
bump()
return finish(says('ok', count, digest))
