-- Included where a stream's entries are read; not a script of its own. An entry is {name, value, name, value...}.

local function field(entry, name)
  for i = 1, #entry, 2 do
    if entry[i] == name then return entry[i + 1] end
  end
end
