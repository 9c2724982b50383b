-- A page of checkpoints, newest first.
--
-- KEYS[1-8]       those of state_prelude
-- ARGV[1] limit   checkpoints at most; one more is returned where there is one
-- ARGV[2] before  ordinal below which to begin, '' for the newest
--
-- Reply: {'ok', ..., number of all, headers} | false without a session | {'malformed', field}
-- include state_reading

local total, refusal = conversation()
if not total then return refusal end
local top = ARGV[2] == '' and '+inf' or '(' .. ARGV[2]
local ids = redis.call('ZREVRANGEBYSCORE', KEYS[4], top, '-inf', 'LIMIT', 0, tonumber(ARGV[1]) + 1)
local headers = {}
for i, id in ipairs(ids) do headers[i] = redis.call('HGET', KEYS[5], id) or '' end
return says(redis.call('ZCARD', KEYS[4]), headers)
