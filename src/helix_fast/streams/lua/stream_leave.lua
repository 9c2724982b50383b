-- A writer closes in good order: its lease must not be missed. The lease itself stays while another writer holds one.
--
-- KEYS[1] meta   KEYS[2] lease
-- ARGV[1] producer   name of the process among the holders of the lease
-- ARGV[2] term       the writer's term: one of an older term holds nothing any more; '' for one that never learned its term
--
-- Reply: 1. Idempotent.

local known = redis.call('HMGET', KEYS[1], 'leases', 'term')
local leases = known[1]
if leases and (ARGV[2] == '' or known[2] == ARGV[2]) then
  local from, to = string.find(leases, ARGV[1] .. ',', 1, true)
  if from then leases = string.sub(leases, 1, from - 1) .. string.sub(leases, to + 1) end
  if leases == '' then
    redis.call('HDEL', KEYS[1], 'leases', 'leaseMs', 'missed')
    redis.call('DEL', KEYS[2])
  else
    redis.call('HSET', KEYS[1], 'leases', leases)
  end
end
return 1
