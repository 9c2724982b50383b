-- Who holds a lock, and for how long. Changes nothing.
--
-- KEYS[1] lock
--
-- Reply: false where it is free, else {record, milliseconds until it expires (-1 never)}

local record = redis.call('GET', KEYS[1])
if not record then return false end
return {record, redis.call('PTTL', KEYS[1])}
