-- Renew a session's time to live, or give it one of its own, which all later writes keep.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] own           seconds, '0' to keep the session until it is deleted, '' for no change
--
-- Reply: {'ok', ...}
-- include state_prelude

if not version then return {'missing'} end
if ARGV[4] ~= '' then
  ttl = tonumber(ARGV[4])
  redis.call('HSET', session, 'ttl', ARGV[4])
end
return finish(says('ok'))
