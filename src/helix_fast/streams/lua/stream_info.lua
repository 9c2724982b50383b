-- All that get_info tells, at one moment. Changes nothing.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
--
-- Reply: false where there is no stream, else {meta as a flat list, first entry, top entry, lease in ms, now in ms}

local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 2)
if #top == 0 then return false end
local time = redis.call('TIME')
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return {redis.call('HGETALL', KEYS[2]), first[1], top, redis.call('PTTL', KEYS[3]),
  string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
