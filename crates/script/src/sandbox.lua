-- Takes from a state what a script must not have, and makes the rest of it unchangeable.
-- What is left is what Redis leaves: the names below, with their fields.
local prepare, place_of_caller, place_at, random, randomseed, null, readonly, host = ...

local names = {
  base = "_VERSION assert collectgarbage error gcinfo getmetatable ipairs load loadstring next pairs pcall "
    .. "rawequal rawget rawset select setmetatable tonumber tostring type unpack xpcall",
  coroutine = "create resume running status wrap yield",
  math = "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min mod "
    .. "modf pi pow rad random randomseed sin sinh sqrt tan tanh",
  os = "clock",
  string = "byte char dump find format gfind gmatch gsub len lower match rep reverse sub upper",
  table = "concat foreach foreachi getn insert maxn remove setn sort",
}

local error, getmetatable, setmetatable, type = error, getmetatable, setmetatable, type
local next, pairs, rawget, rawset, select, tostring = next, pairs, rawget, rawset, select, tostring
local load, loadstring, pcall, tonumber, collectgarbage = load, loadstring, pcall, tonumber, collectgarbage
local xpcall, floor, log = xpcall, math.floor, math.log
local insert, concat, foreach = table.insert, table.concat, table.foreach
local rep, sub, dump = string.rep, string.sub, string.dump

-- More levels than a stack can have.
local levels_max = 2 ^ 31
-- Of the text that a reader function makes up.
local source_bytes_max = 8 * 1024 * 1024

local env = _G

-- Every unchangeable table is an empty one in front of the real one, which is here. Each function that
-- reads or writes tables without asking their metatables has to know of it.
local behind = {}

local function is_text(value)
  return type(value) == "string" or type(value) == "number"
end

local function refuse()
  error(readonly, 2)
end

local function protect(real, shown_metatable)
  local proxy = {}
  behind[proxy] = real
  return setmetatable(proxy, {
    __index = real,
    __newindex = refuse,
    __metatable = shown_metatable or false,
  })
end

-- The complaint about an argument of another type, as Lua has it; to be called by functions of C's kind.
local function expected(kind, number, name, ...)
  local got = select("#", ...) < number and "no value" or type((select(number, ...)))
  error("bad argument #" .. number .. " to '" .. name .. "' (" .. kind .. " expected, got " .. got .. ")", 3)
end

local own = {}

-- Above the caller's own level there may be functions of Larder's that are Lua, where Redis has one of C.
function own.error(...)
  local message, level = ...
  level = is_text(message) and tonumber(level)
  if level and level >= 2 then
    return error((level < levels_max and place_at(floor(level)) or "") .. message, 0)
  end
  return error(...)
end

function own.next(...)
  local real = behind[(...)]
  if real then
    return next(real, (select(2, ...)))
  end
  return next(...)
end

local own_next = own.next

function own.pairs(...)
  local table = ...
  if behind[table] then
    return own_next, table, nil
  elseif table == nil then
    expected("table", 1, "pairs", ...)
  end
  return pairs(...)
end

function own.rawget(...)
  local real = behind[(...)]
  if real then
    return rawget(real, (select(2, ...)))
  end
  return rawget(...)
end

function own.rawset(...)
  if behind[(...)] then
    error(readonly, 0)
  end
  return rawset(...)
end

function own.getmetatable(...)
  local value = ...
  if value == nil then
    return getmetatable(...)
  end
  local shown = getmetatable(value)
  if shown == false and (behind[value] or type(value) == "userdata") then
    return nil
  end
  return shown
end

function own.setmetatable(...)
  local table, metatable = ...
  if behind[table] and (type(metatable) == "table" or metatable == nil and select("#", ...) > 1) then
    error(readonly, 0)
  end
  return setmetatable(...)
end

-- The name of a chunk as messages have it, with the line behind it.
local function place(name, line)
  local _, message = loadstring(rep("\n", line - 1) .. "$", name)
  return sub(message, 1, -#"unexpected symbol near '$'" - 1)
end

-- The text that a reader function gives in pieces; nil and what is wrong if it does not.
local function read_all(reader)
  local pieces, bytes = {}, 0
  while true do
    local ok, piece = pcall(reader)
    if not ok then
      return nil, piece
    elseif piece == nil or piece == "" then
      return concat(pieces)
    elseif not is_text(piece) then
      return nil, place_of_caller() .. "reader function must return a string"
    end
    piece = tostring(piece)
    pieces[#pieces + 1] = piece
    bytes = bytes + #piece
    if bytes > source_bytes_max then
      return nil, "not enough memory"
    end
  end
end

-- `load` and `loadstring` for chunks that have these globals.
local function loaders(globals)
  local function compile(source, name)
    local ready, line, message = prepare(source)
    if not ready then
      return nil, place(name, line) .. message
    end
    return load(ready, name, "t", globals)
  end

  local function load_text(...)
    local source, name = ...
    if not is_text(source) then
      expected("string", 1, "loadstring", ...)
    elseif name ~= nil and not is_text(name) then
      expected("string", 2, "loadstring", ...)
    end
    source = tostring(source)
    return compile(source, name and tostring(name) or source)
  end

  local function load_pieces(...)
    local reader, name = ...
    if type(reader) ~= "function" then
      expected("function", 1, "load", ...)
    elseif name ~= nil and not is_text(name) then
      expected("string", 2, "load", ...)
    end
    local source, message = read_all(reader)
    if not source then
      return nil, message
    end
    return compile(source, name and tostring(name) or "=(load)")
  end

  return load_pieces, load_text
end

own.load, own.loadstring = loaders(env)

-- A script has no say in when the state's garbage is collected: others run in the same one.
local settings = { setpause = 200, setstepmul = 200 }

function own.collectgarbage(...)
  local option, value = ...
  if option == "stop" or option == "restart" then
    return 0
  elseif option == "isrunning" then
    error("bad argument #1 to 'collectgarbage' (invalid option 'isrunning')", 2)
  elseif settings[option] and (value == nil or tonumber(value)) then
    local before = settings[option]
    settings[option] = tonumber(value or 0)
    return before
  end
  return collectgarbage(...)
end

-- LuaJIT hands on what follows the handler.
function own.xpcall(...)
  if select("#", ...) < 2 then
    error("bad argument #2 to 'xpcall' (value expected)", 2)
  end
  local body, handler = ...
  return xpcall(body, handler)
end

local fields = {
  base = own,
  math = { random = random, randomseed = randomseed, mod = math.fmod },
  string = { gfind = string.gmatch },
  table = {},
}

-- LuaJIT knows another argument more.
function fields.math.log(...)
  if select("#", ...) > 1 then
    return log((...))
  end
  return log(...)
end

function fields.string.rep(...)
  if select("#", ...) > 2 then
    local text, count = ...
    return rep(text, count)
  end
  return rep(...)
end

-- The machine's own code would come out, which can't be loaded anyway.
function fields.string.dump(...)
  if type((...)) ~= "function" then
    return dump(...)
  end
  error("unable to dump given function", 2)
end

function fields.table.insert(...)
  if behind[(...)] then
    error(readonly, 0)
  end
  return insert(...)
end

function fields.table.foreach(...)
  local real, body = behind[(...)], (select(2, ...))
  if real and type(body) == "function" then
    return foreach(real, body)
  end
  return foreach(...)
end

function fields.table.setn(...)
  if type((...)) ~= "table" then
    expected("table", 1, "setn", ...)
  end
  error("'setn' is obsolete", 2)
end

-- A table with the fields of that name, changed where they are to be.
local function keep(from, name)
  local kept = {}
  for field in string.gmatch(names[name], "%S+") do
    kept[field] = fields[name] and fields[name][field] or from[field]
  end
  return kept
end

local real = keep(env, "base")
for name in pairs(names) do
  if name ~= "base" then
    local kept = keep(env[name], name)
    real[name] = protect(kept)
  end
end
for name, value in pairs(host) do
  real[name] = type(value) == "table" and protect(value) or value
end
real._G = env

-- Reading a global that there is not is an error, whose text asks for a name.
local function absent(_, name)
  if type(name) ~= "string" and type(name) ~= "number" then
    error("Second argument to luaProtectedTableError must be a string or number", 2)
  end
  error("Script attempted to access nonexistent global variable '" .. name .. "'", 2)
end

local string_metatable = getmetatable("")
string_metatable.__index = string
string_metatable.__metatable = protect({ __index = real.string })

-- As C prints a pointer to nothing.
local pointer_metatable = { __metatable = false }
function pointer_metatable.__tostring(value)
  return value == null and "userdata: (nil)" or "userdata"
end

for name in pairs(env) do
  env[name] = nil
end
behind[env] = real
setmetatable(real, { __index = absent })
setmetatable(env, {
  __index = real,
  __newindex = refuse,
  __metatable = protect({ __index = absent }),
})
return real, protect, behind, loaders, absent, pointer_metatable
