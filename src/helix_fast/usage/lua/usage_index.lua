-- List a session in the index, on a cluster, where the index lives in another slot than the session's keys.
--
-- KEYS[1] index     ZSET of sessions by expiry
-- ARGV[1] ttl       seconds, '0' to keep
-- ARGV[2] session   its member
-- ARGV[3] forever   its score where ttl is '0'
--
-- Reply: 1
-- Repeating it is safe: it writes the same again.

-- include index_listing

list_session(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3])
return 1
