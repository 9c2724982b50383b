-- Included where a session is listed in the index; not a script of its own.

-- The session is listed until its usage expires, and expired ones are removed. forever: the score with ttl 0.
local function list_session(index, ttl, session, forever)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('(%.0f', now))
  local left = redis.call('PTTL', index)
  redis.call('ZADD', index, ttl > 0 and string.format('%.0f', now + ttl * 1000) or forever, session)
  if ttl == 0 then
    redis.call('PERSIST', index)
  elseif left == -2 or (left >= 0 and left < ttl * 1000) then
    redis.call('EXPIRE', index, ttl)
  end
end
