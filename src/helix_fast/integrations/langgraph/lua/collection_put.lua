-- Put items into a namespace, and delete others from it.
--
-- KEYS[1] items         HASH: key -> item
-- KEYS[2] expiry        ZSET of the keys whose items expire
-- ARGV[1...]            key, milliseconds to live or '', '1' to put or '0' to delete, bytes, ...
--
-- Reply: {1 if there was nothing in the namespace before, 1 if there is nothing now}
-- Repeating it is safe: it writes the same again.
-- include collection_expiring

forget_expired()
local empty = redis.call('EXISTS', items) == 0
for i = 1, #ARGV, 4 do
  local key, life = ARGV[i], ARGV[i + 1]
  redis.call('ZREM', expiry, key)
  if ARGV[i + 2] == '0' then
    redis.call('HDEL', items, key)
  else
    local before = redis.call('HGET', items, key)
    local created = before and string.match(before, '^(%d+):') or whole(now)
    local item = created .. ':' .. whole(now) .. ':' .. life .. ':' .. ARGV[i + 3]
    redis.call('HSET', items, key, item)
    renew(key, item)
  end
end
renew_keys()
return {empty and 1 or 0, 1 - redis.call('EXISTS', items)}
