-- Write a file of Strands, or delete it.
--
-- KEYS[1] file          STRING: its bytes
-- KEYS[2] names         ZSET: the names of the files
-- KEYS[3] operation     STRING with TTL: this call was made
-- ARGV[1] name          of the file
-- ARGV[2] action        'write' or 'delete'
-- ARGV[3] bytes
-- ARGV[4] ttl           milliseconds that the file is kept; 0: until it is deleted
-- ARGV[5] remembered    milliseconds that the operation is kept
--
-- Reply: 'ok'
-- Repeating it after a lost reply is safe: it finds the operation, so it undoes no later call.

if redis.call('EXISTS', KEYS[3]) == 1 then return 'ok' end
if ARGV[2] == 'delete' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[3])
  if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[5])
return 'ok'
