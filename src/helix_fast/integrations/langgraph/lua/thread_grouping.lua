-- Included where writes of a task are added to those that are stored; not a script of its own.

-- found, added: index and write of each, in turns. replace: whether an added one takes the place of one with its index
local function merge(found, added, replace)
  local at = {}
  for i = 1, #found, 2 do at[found[i]] = i end
  for i = 1, #added, 2 do
    local index = added[i]
    if not at[index] then
      at[index] = #found + 1
      found[at[index]] = index
      found[at[index] + 1] = added[i + 1]
    elseif replace(index) then
      found[at[index] + 1] = added[i + 1]
    end
  end
end

local function group_of(text) -- the task, and index and write of each
  local group = list_of(text)
  return table.remove(group, 1), group
end

local function as_group(task, group)
  local parts = {as_part(task)}
  for i, each in ipairs(group) do parts[i + 1] = as_part(each) end
  return table.concat(parts)
end
