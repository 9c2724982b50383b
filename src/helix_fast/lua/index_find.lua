-- Ids of one shard of the index that have not expired, by expiry.
--
-- KEYS[1] index   ZSET of ids by expiry
-- ARGV[1] score   of the last id seen, '' to begin
-- ARGV[2] count   ids at most beyond that score, '-1' for all
--
-- Reply: {ids at that very score, ids beyond it}, each as member, score, member, score…

local index, score = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local ties, low = {}, now
if score ~= '' and tonumber(score) >= tonumber(now) then
  ties = redis.call('ZRANGEBYSCORE', index, score, score, 'WITHSCORES')
  low = '(' .. score
end
return {ties, redis.call('ZRANGEBYSCORE', index, low, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])}
