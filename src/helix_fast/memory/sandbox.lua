-- What Redis puts around the scripts of a server in memory: the names that a script may use, and none that outlive it.
-- Run once for each server. Arguments: functions of scripting.py. Returns: load, run, run_spread, null.
local request, sha1hex, encode, decode = ...

local error, getinfo, loadstring, next, pairs, pcall, rawget, rawset, select, setmetatable, tostring, type, unpack, xpcall =
  error, debug.getinfo, loadstring, next, pairs, pcall, rawget, rawset, select, setmetatable, tostring, type, unpack, xpcall
local byte, concat = string.byte, table.concat
local null = newproxy()
local ours = getinfo(1, 'S').source
local SPREAD = 200 -- values that cross to Python one by one, which is faster than as a table; the C stack ends at 8000

-- Tables that scripts read and share: an empty front, so that each assignment is seen and refused.

local sealed = {}

local function refuse()
  error('Attempt to modify a readonly table', 2)
end

local function seal(front, names)
  sealed[front] = true
  return setmetatable(front, {__index = names, __newindex = refuse, __metatable = false})
end

-- redis

local function received(marked, kind, ...)
  if marked ~= true then
    return marked
  elseif kind == 'array' then
    return {...}
  end
  return {[kind] = (...)}
end

local function reply_field(field, text, ...)
  if type(text) ~= 'string' or select('#', ...) > 0 then
    return {err = 'ERR wrong number or type of arguments'}
  end
  return {[field] = text}
end

local redis = {LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3}

function redis.pcall(...)
  return received(request(...))
end

function redis.call(...)
  local reply = received(request(...))
  if type(reply) == 'table' and reply.err then
    error(reply, 0)
  end
  return reply
end

function redis.sha1hex(...)
  if select('#', ...) ~= 1 then
    error({err = 'ERR wrong number of arguments'}, 0)
  end
  local text = ...
  return sha1hex((type(text) == 'string' or type(text) == 'number') and tostring(text) or '')
end

function redis.error_reply(...)
  local reply = reply_field('err', ...)
  reply.err = reply.err:gsub('^%-', '')
  return reply
end

function redis.status_reply(...)
  return reply_field('ok', ...)
end

function redis.log() end

-- cjson

local cjson = {null = null}

local function raising(function_)
  return function(...)
    local fine, value = function_(...)
    if not fine then
      error(value, 2)
    end
    return value
  end
end

cjson.encode, cjson.decode = raising(encode), raising(decode)

-- Lua's own functions that differ in a script

local function load_text(text, name)
  if type(text) == 'string' and byte(text) == 27 then
    return nil, 'bytecode is not loaded'
  end
  return loadstring(text, name)
end

local function load_pieces(reader, name)
  local pieces = {}
  while true do
    local piece = reader()
    if piece == nil or piece == '' or byte(pieces[1] or '') == 27 then
      return load_text(concat(pieces), name or '=(load)')
    end
    pieces[#pieces + 1] = piece
  end
end

local function unpacked(fine, failure, ...)
  if not fine and type(failure) == 'table' and type(rawget(failure, 'err')) == 'string' then
    return false, failure.err
  end
  return fine, failure, ...
end

local names = {
  cjson = seal({}, cjson),
  debug = false, -- lupa asks for it at each call, where an error would end the process
  load = load_pieces,
  loadstring = load_text,
  os = seal({}, {clock = os.clock}),
  pcall = function(...) return unpacked(pcall(...)) end,
  redis = seal({}, redis),
  rawset = function(table_, key, value)
    if sealed[table_] then
      refuse()
    end
    return rawset(table_, key, value)
  end,
}
names.server = names.redis
local insert = table.insert
function table.insert(table_, ...)
  if sealed[table_] then
    refuse()
  end
  return insert(table_, ...)
end
for _, name in ipairs({'coroutine', 'math', 'string', 'table'}) do
  names[name] = seal({}, _G[name])
end
for _, name in ipairs({
  '_VERSION', 'assert', 'collectgarbage', 'error', 'gcinfo', 'getmetatable', 'ipairs', 'next', 'pairs', 'rawequal', 'rawget',
  'select', 'setmetatable', 'tonumber', 'tostring', 'type', 'unpack', 'xpcall',
}) do
  names[name] = _G[name]
end
names._G = _G
setmetatable(names, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
})
getmetatable('').__metatable = false
local globals = _G
for name in pairs(globals) do
  globals[name] = nil
end
seal(globals, names)

-- Running a script

local function located(failure)
  if type(failure) ~= 'table' then
    failure = {err = 'ERR ' .. tostring(failure)}
  end
  for level = 2, 20 do
    local info = getinfo(level, 'Sl')
    if info == nil then
      break
    elseif info.what ~= 'C' and info.currentline > 0 and info.source ~= ours then
      failure.source, failure.line = info.source, info.currentline
      break
    end
  end
  return failure
end

-- 'failed', text, source, line · 'value', value · 'ok', text · 'err', text · 'array', size, elements · 'table', a long array
local function answer(fine, value)
  if not fine then
    local text = rawget(value, 'err')
    return 'failed', type(text) == 'string' and text or 'ERR unknown error', value.source, value.line
  elseif type(value) ~= 'table' then
    return 'value', value
  end
  for _, kind in next, {'err', 'ok'} do
    local text = rawget(value, kind)
    if type(text) == 'string' then
      return kind, text
    end
  end
  local size = 0
  while rawget(value, size + 1) ~= nil do
    size = size + 1
    if size > SPREAD then
      return 'table', value
    end
  end
  return 'array', size, unpack(value, 1, size)
end

local function run(script, keys, arguments)
  names.KEYS, names.ARGV = keys, arguments
  return answer(xpcall(script, located))
end

local function run_spread(script, count, ...)
  local keys = {}
  for i = 1, count do
    keys[i] = (select(i, ...))
  end
  return run(script, keys, {select(count + 1, ...)})
end

return load_text, run, run_spread, null
