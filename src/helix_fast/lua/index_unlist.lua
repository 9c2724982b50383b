-- Take ids that do not exist any more out of one shard of an index.
--
-- KEYS[1] index     ZSET of ids by expiry
-- ARGV[1...]        id, the score with which it was found, ...: one that was listed anew since then stays
--
-- Reply: 1
-- Repeating it is safe: the score tells an id that was created and listed since.

for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return 1
