-- The table `redis`, as far as it is Lua: what needs the server is asked of it through `quick` and `ask`. Errors are tables
-- with a field `err`, as everywhere in Redis' scripts.
local slot, api, native = ...
local error, type, select, tostring, tonumber, rawget, rawset, pcall, xpcall =
  error, type, select, tostring, tonumber, rawget, rawset, pcall, xpcall
local quick, quick2, quick3, quick4, limit, ask =
  native.quick, native.quick2, native.quick3, native.quick4, native.limit, native.ask
-- What is asked the long way.
local CALL, LOG, MAY, CALL_PACKED, REPLICATE = 1, 2, 3, 5, 6
-- What a short answer is that is no value.
local OK, STATUS = 1, 2
-- More words than these go in a table.
local WORDS_MAX = 1000

local function raise(text)
  error({ err = "ERR " .. text }, 0)
end

-- A command of any words: its answer, and whether that is an error.
local function long_call(...)
  local count = select("#", ...)
  if count > WORDS_MAX then
    return ask(CALL_PACKED, { ... }, count)
  end
  return ask(CALL, ...)
end

-- Whether words are strings, up to six of which there are so many.
local function are_strings(count, a, b, c, d, e, f)
  return type(a) == "string" and (count < 2 or type(b) == "string") and (count < 3 or type(c) == "string")
    and (count < 4 or type(d) == "string") and (count < 5 or type(e) == "string") and (count < 6 or type(f) == "string")
end

-- Carries out a command: the short way, if its words are few and strings. What it answers, and what that is: nothing for a
-- value, or what a short answer is, or that it is an error.
local function carry_out(...)
  local count = select("#", ...)
  local a, b, c, d = ...
  if count == 2 then
    if type(a) == "string" and type(b) == "string" then
      return quick2(a, b)
    end
  elseif count == 3 then
    if type(a) == "string" and type(b) == "string" and type(c) == "string" then
      return quick3(a, b, c)
    end
  elseif count == 4 then
    if type(a) == "string" and type(b) == "string" and type(c) == "string" and type(d) == "string" then
      return quick4(a, b, c, d)
    end
  elseif count <= 6 and are_strings(count, ...) then
    return quick(...)
  end
  return long_call(...)
end

local function call(...)
  local answer, kind = carry_out(...)
  if not kind then
    return answer
  elseif kind == OK then
    return { ok = "OK" }
  elseif kind == STATUS then
    return { ok = answer }
  end
  error(answer, 0)
end

local function protected_call(...)
  local answer, kind = carry_out(...)
  if kind == OK then
    return { ok = "OK" }
  elseif kind == STATUS then
    return { ok = answer }
  end
  return answer
end

api.call, api.pcall = call, protected_call

function api.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { err = native.error_text(text) }
end

function api.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { ok = text }
end

function api.sha1hex(...)
  if select("#", ...) ~= 1 then
    raise("wrong number of arguments")
  end
  local text = ...
  return native.sha1hex((type(text) == "string" or type(text) == "number") and tostring(text) or "")
end

function api.log(...)
  local count = select("#", ...)
  if count < 2 then
    raise("redis.log() requires two arguments or more.")
  end
  local level = ...
  if tonumber(level) == nil or type(level) == "table" then
    raise("First argument must be a number (log level).")
  end
  level = native.integer(tonumber(level))
  if level < 0 or level > 3 then
    raise("Invalid log level.")
  end
  local text
  for index = 2, count do
    local part = select(index, ...)
    if type(part) == "string" or type(part) == "number" then
      text = text and text .. " " .. part or "" .. part
    end
  end
  ask(LOG, level, text or "")
end

function api.setresp(...)
  if select("#", ...) ~= 1 then
    raise("redis.setresp() requires one argument.")
  end
  local version = native.integer(tonumber((...)) or 0)
  if version ~= 2 and version ~= 3 then
    raise("RESP version must be 2 or 3.")
  end
  native.set_resp(version)
end

function api.set_repl(...)
  if select("#", ...) ~= 1 then
    raise("redis.set_repl() requires one argument.")
  end
  local flags = native.integer(tonumber((...)) or 0)
  if flags < 0 or flags > 3 then
    raise("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
  ask(REPLICATE, flags)
end

function api.acl_check_cmd(...)
  local answer, failed = ask(MAY, ...)
  if failed then
    error(answer, 0)
  end
  return answer
end

-- Effects are what is replicated, always.
function api.replicate_commands()
  return true
end

-- There is no debugger to stop in.
function api.breakpoint()
  return false
end

function api.debug()
end

-- What pcall answers of an error that is a table is its text. What is no text stands behind the table, as in Redis.
local function answer(ok, ...)
  if ok then
    return true, ...
  end
  local reason = ...
  if type(reason) == "table" then
    local text = rawget(reason, "err")
    if type(text) == "string" or type(text) == "number" then
      return false, text
    end
    return false, reason, text
  elseif type(reason) == "userdata" then
    reason = native.text_of(reason)
  end
  return false, reason
end

local function guarded(...)
  if select("#", ...) == 0 then
    return false, "attempt to call a boolean value"
  end
  return answer(pcall(...))
end

local handler = native.handler
-- What a run's end is.
local OTHER, STRING, FAILED = 0, 1, 2

local function ended(is_well, value)
  if not is_well then
    return FAILED, nil, value
  elseif type(value) == "string" then
    return STRING, value
  end
  return OTHER, nil, value
end

-- A table of so many words, up to six.
local function listed(count, a, b, c, d, e, f)
  if count == 0 then
    return {}
  elseif count == 1 then
    return { a }
  elseif count == 2 then
    return { a, b }
  elseif count == 3 then
    return { a, b, c }
  elseif count == 4 then
    return { a, b, c, d }
  elseif count == 5 then
    return { a, b, c, d, e }
  end
  return { a, b, c, d, e, f }
end

-- Runs a compiled script with tables of its keys and arguments: it is given them, or finds them among the globals.
local function run_with(script, is_given, keys, arguments)
  if is_given then
    return ended(xpcall(slot.compiled[script], handler, call, protected_call, keys, arguments))
  end
  local globals = slot.globals
  rawset(globals, "KEYS", keys)
  rawset(globals, "ARGV", arguments)
  return ended(xpcall(slot.compiled[script], handler))
end

-- The same with up to six words: so many keys, and so many arguments behind them.
local function run_few(script, is_given, keys, arguments, a, b, c, d, e, f)
  if keys == 1 then
    return run_with(script, is_given, { a }, listed(arguments, b, c, d, e, f))
  elseif keys == 0 then
    return run_with(script, is_given, {}, listed(arguments, a, b, c, d, e, f))
  elseif keys == 2 then
    return run_with(script, is_given, { a, b }, listed(arguments, c, d, e, f))
  end
  local all, rest = listed(keys + arguments, a, b, c, d, e, f), {}
  for index = 1, arguments do
    rest[index], all[keys + index] = all[keys + index], nil
  end
  return run_with(script, is_given, all, rest)
end

-- The same with more words, of which so many are keys.
local function run_many(script, is_given, keys, ...)
  limit()
  local all, first = { ... }, {}
  for index = 1, keys do
    first[index] = all[index]
  end
  return run_with(script, is_given, first, { select(keys + 1, ...) })
end

-- The same with tables.
local function run_listed(script, is_given, keys, arguments)
  limit()
  return run_with(script, is_given, keys, arguments)
end

local function call_function(body, ...)
  return ended(xpcall(body, handler, ...))
end

return guarded, call_function, run_few, run_many, run_listed
