-- Gives a function that answers its errors the manners of Lua's own functions. Its first value is
-- nil if its results follow; false if a table of them follows, and the first and the last place in
-- there; else an error, and behind it the level whose place goes in front of it.
local raw = ...
local error, unpack = error, unpack

-- Called as a tail call: the caller of the function is on level 2.
local function finish(failure, ...)
  if failure == nil then
    return ...
  elseif failure then
    error(failure, (...))
  end
  return unpack(...)
end

return function(...)
  return finish(raw(...))
end
