-- Included where reading a thread keeps it alive; not a script of its own.

local function renew(ttl) -- seconds; '' to leave it
  if ttl ~= '' then
    for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ttl) end
  end
end
