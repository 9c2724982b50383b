-- List an id in an index, on a cluster, where the index is in another slot than the keys of the id.
--
-- KEYS[1] index     ZSET of ids by expiry
-- ARGV[1] ttl       seconds, '0' to keep
-- ARGV[2] id        its member
-- ARGV[3] created   '1': it is a new one
--
-- Reply: 1
-- Repeating it is safe: it lists the same id again.
-- include listing

list_id(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1')
return 1
