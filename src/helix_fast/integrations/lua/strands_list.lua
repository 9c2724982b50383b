-- List the names of files of Strands that begin with a prefix, in order; those that have expired leave the list.
--
-- KEYS[1] names     ZSET: the names; its name begins those of the files
-- ARGV[1] after     lower bound of the names, as of ZRANGE BYLEX
-- ARGV[2] before    upper bound
-- ARGV[3] count     names to look at
--
-- Reply: {names looked at, the last of them, the names whose files are there}

local base = string.sub(KEYS[1], 1, -#'names' - 1)
local names = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'BYLEX', 'LIMIT', 0, ARGV[3])
local found = {}
for _, name in ipairs(names) do
  if redis.call('EXISTS', base .. 'file:' .. name) == 1 then
    found[#found + 1] = name
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return {#names, names[#names] or '', found}
