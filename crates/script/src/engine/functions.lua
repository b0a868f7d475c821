-- `redis.register_function`, and the running of a library that registers its functions by it.
local handler = ...
local error, find, lower, pairs, select, tostring, type, xpcall =
  error, string.find, string.lower, pairs, select, tostring, type, xpcall

local known_flags = {
  ["no-writes"] = true,
  ["allow-oom"] = true,
  ["allow-stale"] = true,
  ["no-cluster"] = true,
  ["allow-cross-slot-keys"] = true,
}

-- What the library that is being loaded has registered: the functions in order, and by name. Nothing is
-- loaded without it.
local registered, by_name

local function refuse(text)
  error({ err = "ERR " .. text }, 0)
end

local function is_text(value)
  return type(value) == "string" or type(value) == "number"
end

local function read_flags(flags)
  if type(flags) ~= "table" then
    refuse("flags argument to redis.register_function must be a table representing function flags")
  end
  local read = {}
  for index = 1, #flags do
    local flag = flags[index]
    if flag == nil then
      break
    elseif type(flag) ~= "string" or not known_flags[lower(flag)] then
      refuse("unknown flag given")
    end
    read[index] = lower(flag)
  end
  return read
end

local function named(arguments)
  local read = {}
  for key, value in pairs(arguments) do
    if not is_text(key) then
      refuse("named argument key given to redis.register_function is not a string")
    end
    key = lower(tostring(key))
    if key == "function_name" or key == "description" then
      if not is_text(value) then
        refuse(key .. " argument given to redis.register_function must be a string")
      end
      read[key] = tostring(value)
    elseif key == "callback" then
      if type(value) ~= "function" then
        refuse("callback argument given to redis.register_function must be a function")
      end
      read.callback = value
    elseif key == "flags" then
      read.flags = read_flags(value)
    else
      refuse("unknown argument given to redis.register_function")
    end
  end
  if not read.function_name then
    refuse("redis.register_function must get a function name argument")
  elseif not read.callback then
    refuse("redis.register_function must get a callback argument")
  end
  return read
end

local function read_arguments(...)
  local count = select("#", ...)
  local name, callback = ...
  if count < 1 or count > 2 then
    refuse("wrong number of arguments to redis.register_function")
  elseif count == 1 then
    if type(name) ~= "table" then
      refuse("calling redis.register_function with a single argument is only applicable to Lua table "
        .. "(representing named arguments).")
    end
    return named(name)
  elseif not is_text(name) then
    refuse("first argument to redis.register_function must be a string")
  elseif type(callback) ~= "function" then
    refuse("second argument to redis.register_function must be a function")
  end
  return { function_name = tostring(name), callback = callback }
end

local function register_function(...)
  if not registered then
    refuse("redis.register_function can only be called on FUNCTION LOAD command")
  end
  local read = read_arguments(...)
  local name = read.function_name
  if name == "" or find(name, "[^a-zA-Z0-9_]") then
    refuse("Library names can only contain letters, numbers, or underscores(_) and must be at least one "
      .. "character long")
  elseif by_name[name] then
    refuse("Function already exists in the library")
  end
  by_name[name] = true
  registered[#registered + 1] = read
end

-- Runs a library: true and what it registered, or false and an error.
local function load(library)
  registered, by_name = {}, {}
  local is_well, reason = xpcall(library, handler)
  local all = registered
  registered, by_name = nil, nil
  return is_well, is_well and all or reason
end

return register_function, load
