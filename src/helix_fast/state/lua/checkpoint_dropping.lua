-- Included by the scripts that let old checkpoints go, after state_prelude; not a script of its own.
--
-- KEYS and ARGV: those of state_prelude. Reply: `keep_newest` returns how many went.

local function keep_newest(keep)
  local gone = redis.call('ZRANGE', checkpoints, 0, -1 - keep)
  for _, id in ipairs(gone) do
    local number = string.match(redis.call('HGET', records, id) or '', '^{"generation":(%d+)')
    redis.call('ZREM', checkpoints, id)
    local run = redis.call('HGET', records, id .. ':run') -- the run that it ended, if one
    redis.call('HDEL', records, id, id .. ':state', id .. ':run', run and 'run:' .. run or id)
    if number then pin(number, -1) end -- its log goes with the last checkpoint that refers to it
  end
  return #gone
end
