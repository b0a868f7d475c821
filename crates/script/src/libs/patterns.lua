-- `find`, `match`, `gmatch` and `gsub` as scripts have them: LuaJIT's own where that can take but a moment, for else nobody could end
-- them; and those of `patterns.rs`, which can be ended, where it might take long.
local string, long_find, long_match, step, replace = ...
local error, type = error, type
local concat = table.concat
local byte, sub = string.byte, string.sub
local find, match, gmatch, gsub = string.find, string.match, string.gmatch, string.gsub

-- How long a subject may be for a pattern with so many items that match one length or another, starting with one such item: some
-- hundred millions of steps. Each of them, and each start, may multiply the steps by the length.
local LENGTHS = { 20000, 900, 220, 99, 60, 43, 32 }
local SHORT = 24
-- Steps for a pattern without such items: at each start it fails somewhere on its way.
local STEPS = 400000000
-- Patterns whose items have been counted, if they are short; and how many of them are kept.
local KEPT, KEPT_BYTES = 500, 200
local counted, kept = {}, 0

local REPEATS = { [42] = true, [43] = true, [45] = true, [63] = true }
local ESCAPE, ANCHOR, BALANCE, ZERO, NINE = 37, 94, 98, 48, 57

-- How many items of a pattern match one length or another. A sign in a set is counted as well: that only takes the longer way.
local function count(pattern)
  local found, at, length = 0, 1, #pattern
  while at <= length do
    local sign = byte(pattern, at)
    if sign == ESCAPE then
      at = at + 1
      sign = byte(pattern, at)
      if sign == BALANCE or sign and sign >= ZERO and sign <= NINE then
        found = found + 1
      end
    elseif REPEATS[sign] then
      found = found + 1
    end
    at = at + 1
    if found > #LENGTHS then
      break
    end
  end
  -- With one start there is one multiplication less.
  return byte(pattern, 1) == ANCHOR and found > 0 and found - 1 or found
end

-- Whether to match a pattern may take long.
local function is_long(subject, pattern)
  if type(subject) ~= "string" or type(pattern) ~= "string" or #subject <= SHORT then
    return false
  end
  local found = counted[pattern]
  if not found then
    found = count(pattern)
    if #pattern <= KEPT_BYTES then
      if kept >= KEPT then
        counted, kept = {}, 0
      end
      counted[pattern], kept = found, kept + 1
    end
  end
  if found == 0 then
    return #subject * #pattern > STEPS
  end
  return #subject > (LENGTHS[found] or SHORT)
end

local function is_number_or_nil(value)
  return value == nil or type(value) == "number"
end

local long = { find = long_find, match = long_match }

function long.gmatch(subject, pattern)
  local at = 0
  local function go_on(from, to, ...)
    if from == false then
      error(to, 2)
    elseif not from then
      at = #subject + 1
      return
    end
    at = to > from and to or to + 1
    return ...
  end
  return function()
    return go_on(step(subject, pattern, at, false))
  end
end

-- Replaces by what a table has or a function answers.
local function replace_by(subject, pattern, by, max)
  local is_anchored, is_table = byte(pattern, 1) == ANCHOR, type(by) == "table"
  local parts, found, at, copied = {}, 0, 0, 0
  local function take(from, to, ...)
    if from == false then
      error(to, 3)
    elseif not from then
      return false
    end
    found = found + 1
    local value
    if is_table then
      value = by[(...)]
    else
      value = by(...)
    end
    if not value then
      value = sub(subject, from + 1, to)
    elseif type(value) ~= "string" and type(value) ~= "number" then
      error("invalid replacement value (a " .. type(value) .. ")", 3)
    end
    parts[#parts + 1] = sub(subject, copied + 1, from)
    parts[#parts + 1] = value
    copied = to
    at = to > from and to or to + 1
    return not is_anchored
  end
  while found < max and at <= #subject and take(step(subject, pattern, at, is_anchored, is_table)) do
  end
  parts[#parts + 1] = sub(subject, copied + 1)
  return concat(parts), found
end

function long.gsub(subject, pattern, by, max)
  max = max or #subject + 1
  if type(by) == "table" or type(by) == "function" then
    return replace_by(subject, pattern, by, max)
  end
  return replace(subject, pattern, by, max)
end

function string.find(...)
  local subject, pattern, start, is_plain = ...
  if is_long(subject, pattern) and is_number_or_nil(start) then
    return long_find(subject, pattern, start or 1, is_plain and true or false)
  end
  return find(...)
end

function string.match(...)
  local subject, pattern, start = ...
  if is_long(subject, pattern) and is_number_or_nil(start) then
    return long_match(subject, pattern, start or 1)
  end
  return match(...)
end

function string.gmatch(...)
  local subject, pattern = ...
  if is_long(subject, pattern) then
    return long.gmatch(subject, pattern)
  end
  return gmatch(...)
end

local REPLACEMENTS = { string = true, number = true, table = true, ["function"] = true }

function string.gsub(...)
  local subject, pattern, by, max = ...
  if is_long(subject, pattern) and REPLACEMENTS[type(by)] and is_number_or_nil(max) then
    return long.gsub(subject, pattern, by, max)
  end
  return gsub(...)
end

return long, { find = find, match = match, gmatch = gmatch, gsub = gsub }
