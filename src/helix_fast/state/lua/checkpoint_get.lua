-- One checkpoint with everything that it holds.
--
-- KEYS[1-8]   those of state_prelude
-- ARGV[1] id  '' for the newest
--
-- Reply: false where there is none | {header, record, messages}

if redis.call('EXISTS', KEYS[1]) == 0 then return false end -- what an evicted session has left is no session
local id = ARGV[1]
if id == '' then id = redis.call('ZREVRANGE', KEYS[4], 0, 0)[1] or '' end
if not redis.call('ZSCORE', KEYS[4], id) then return false end
local stored = redis.call('HMGET', KEYS[5], id, id .. ':state')
local generation, count = string.match(stored[1] or '', '^{"generation":(%d+),"messageCount":(%d+)')
local messages = {}
if count and count ~= '0' then
  messages = redis.call('LRANGE', KEYS[1] .. ':messages:' .. generation, 0, string.format('%.0f', tonumber(count) - 1))
end
return {stored[1] or '', stored[2] or '', messages}
