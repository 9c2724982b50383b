-- A page of the conversation.
--
-- KEYS[1-8]       those of state_prelude
-- ARGV[1] offset  messages to skip, from the oldest or the newest
-- ARGV[2] limit   messages at most
-- ARGV[3] newest  '1': from the newest, and the newest first
--
-- Reply: {'ok', ..., number of all messages, messages oldest first} | false without a session | {'malformed', field}
-- include state_reading

local total, log = conversation()
if not total then return log end
local from, to = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1
if ARGV[3] == '1' then from, to = math.max(total - 1 - to, 0), total - 1 - from end
if from >= total or to < from then return says(total, {}) end
return says(total, redis.call('LRANGE', log, string.format('%.0f', from), string.format('%.0f', to)))
