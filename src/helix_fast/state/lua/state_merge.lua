-- Merge changes into the custom state.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4...]            changes: kind, name, JSON, ...; see state_merging
--
-- Reply: {'ok', ..., warnings...}
-- include state_prelude
-- include state_merging

if not version then return {'missing'} end
for i = 4, #ARGV, 3 do merge(ARGV[i], ARGV[i + 1], ARGV[i + 2], '') end
redis.call('HINCRBY', session, 'customVersion', 1)
bump()
return finish(with_warnings(says('ok')))
