-- Included where an id is listed in an index; not a script of its own.

-- It is listed for a tenth longer than it lives, and listed again after such a tenth. Readers check that it
-- exists, and take out what does not. Others may write it with a longer TTL: then only its creation brings the score down.
local function list_id(index, ttl, id, created)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local score = ttl > 0 and now + ttl * 1100 + 1000 or 4e15 + now -- without a TTL: above any time, and never the same again
  redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('(%.0f', now))
  local left = redis.call('PTTL', index)
  local listed = redis.call('ZSCORE', index, id)
  if created or not listed or tonumber(listed) < score then redis.call('ZADD', index, string.format('%.0f', score), id) end
  if ttl == 0 then
    redis.call('PERSIST', index)
  elseif left == -2 or (left >= 0 and left < ttl * 1100 + 1000) then
    redis.call('PEXPIRE', index, string.format('%.0f', ttl * 1100 + 1000))
  end
end
