-- Included where items of a namespace are read or written; not a script of its own.
--
-- KEYS[1] items         HASH: key -> item
-- KEYS[2] expiry        ZSET of the keys whose items expire
--
-- An item is '<created>:<updated>:<milliseconds to live, or nothing>:<bytes>'.

local items, expiry = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number) return string.format('%.0f', number) end

local function forget_expired()
  local gone = redis.call('ZRANGEBYSCORE', expiry, '-inf', whole(now))
  for first = 1, #gone, 1000 do
    local last = math.min(first + 999, #gone)
    redis.call('HDEL', items, unpack(gone, first, last))
    redis.call('ZREM', expiry, unpack(gone, first, last))
  end
end

local function renew(key, item) -- it lives from now on as long as it was given
  local life = item and string.match(item, '^%d+:%d+:(%d+):')
  if life then redis.call('ZADD', expiry, whole(now + life), key) end
end

local function renew_keys() -- they live as long as the last of their items
  local last = redis.call('ZREVRANGE', expiry, 0, 0, 'WITHSCORES')[2]
  local all = last and redis.call('ZCARD', expiry) == redis.call('HLEN', items)
  for i = 1, 2 do
    if all then redis.call('PEXPIRE', KEYS[i], whole(last - now + 1000)) else redis.call('PERSIST', KEYS[i]) end
  end
end
