-- Forget what a step has staged.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- KEYS[10] staging       LIST of the step
-- ARGV[4] step          its id
--
-- Reply: {'ok', ..., number forgotten}
-- include state_prelude

if not version then return {'missing'} end
local length = redis.call('LLEN', KEYS[10])
redis.call('UNLINK', KEYS[10])
redis.call('SREM', steps, ARGV[4])
staged = redis.call('SCARD', steps)
redis.call('HSET', session, 'staged', staged)
return finish(says('ok', tostring(length)))
