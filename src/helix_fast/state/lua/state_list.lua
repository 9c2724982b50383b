-- List a session in the index, on a cluster, where the index lives in another slot than the session's keys.
--
-- KEYS[1] index     ZSET of sessions by expiry
-- ARGV[1] ttl       seconds, '0' to keep
-- ARGV[2] session   its member
-- ARGV[3] created   '1': it is a new one
--
-- Reply: 1
-- Repeating it is safe: it lists the same session again.
-- include session_listing

list_session(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1')
return 1
