-- Delete all checkpoints but the newest.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] keep          how many stay
--
-- Reply: {'ok', ..., number deleted}
-- include state_prelude
-- include checkpoint_dropping

if not version then return {'missing'} end
return finish(says('ok', tostring(keep_newest(tonumber(ARGV[4])))))
