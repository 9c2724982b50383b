-- Set the status, always or only where it is one of those expected.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4] status
-- ARGV[5] expected      version, '' for any
-- ARGV[6...]            statuses of which the stored one must be one; none: any
--
-- Reply: {'ok', ...} | {'no', ...} where status or version is another
-- include state_prelude

if not version then return {'missing'} end
if ARGV[5] ~= '' and ARGV[5] ~= version then return says('no') end
if #ARGV > 5 then
  local status, expected = redis.call('HGET', session, 'status'), false
  for i = 6, #ARGV do expected = expected or ARGV[i] == status end
  if not expected then return says('no') end
end
bump('status', ARGV[4])
return finish(says('ok'))
