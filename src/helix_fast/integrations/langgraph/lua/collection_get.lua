-- Items of a namespace.
--
-- KEYS[1] items         HASH: key -> item
-- KEYS[2] expiry        ZSET of the keys whose items expire
-- ARGV[1...]            key, '1' to renew its time to live, ...
--
-- Reply: {item or nil, ...}
-- include collection_expiring

forget_expired()
local found, renewed = {}, false
for i = 1, #ARGV, 2 do
  local key = ARGV[i]
  local item = redis.call('HGET', items, key)
  found[#found + 1] = item
  if ARGV[i + 1] == '1' then
    renew(key, item)
    renewed = true
  end
end
if renewed then renew_keys() end
return found
