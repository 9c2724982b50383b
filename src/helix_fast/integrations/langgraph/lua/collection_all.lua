-- All items of a namespace.
--
-- KEYS[1] items         HASH: key -> item
-- KEYS[2] expiry        ZSET of the keys whose items expire
--
-- Reply: {key, item, ...}
-- include collection_expiring

forget_expired()
return redis.call('HGETALL', items)
