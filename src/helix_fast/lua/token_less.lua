-- Included where fencing tokens are compared; not a script of its own.

local function less(a, b) -- decimal strings: tokens may exceed what a double holds
  if #a ~= #b then return #a < #b end
  return a < b
end
