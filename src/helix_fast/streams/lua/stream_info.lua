-- All that get_info tells, at one moment. Changes nothing.
--
-- KEYS[1] stream   KEYS[2] meta   KEYS[3] lease
--
-- Reply: false where there is no stream, else {meta as a flat list, first entry, newest entries, lease in ms, now in ms}. Of a
-- sealed entry the deflated fields are empty.

local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 2)
if #top == 0 then return false end
local time = redis.call('TIME')
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local terms = redis.call('HGET', KEYS[2], 'terms')
if terms and string.sub(terms, 1, 7) == 'sealed,' then
  for _, entry in ipairs({first[1], unpack(top)}) do
    local fields = entry[2]
    if #fields == 8 and fields[5] == 'sealed' then fields[2], fields[8] = '', '' end
  end
end
return {redis.call('HGETALL', KEYS[2]), first[1], top, redis.call('PTTL', KEYS[3]),
  string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
