-- What wrk runs: the request, the check of every answer, and an end that leaves no request half done.
--
-- Arguments: seconds to measure, connections, markers a right answer holds, the marker, a word that must close a streamed answer or "-", and a
-- file (a file, as arguments can be read by every process) with the body in its first line, then for each target its path, its headers and an
-- empty line. Targets are asked in turn. Prints one line of JSON.
--
-- wrk by itself ends in the middle of its last requests: the server has worked on them and nobody counts them, which at 30 requests per second is
-- a tenth of everything. So here each connection asks delay() before its next request, is parked once the time is over, and the run ends
-- when the last one is parked.

local ffi = require("ffi")
ffi.cdef [[
  struct timespec { long s; long ns; };
  int clock_gettime(int clock, struct timespec *t);
  int getpid(void);
  int kill(int pid, int signal);
]]
local MONOTONIC, SIGINT = 1, 2
local FOREVER_MS = 1e8
local time = ffi.new("struct timespec")

local function now()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.s) + tonumber(time.ns) / 1e9
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  seconds, connections, markers = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  marker, closing = args[4], args[5]
  local file = assert(io.open(args[6]))
  local body = file:read("*l")
  prepared, turn = {}, 0
  local path, headers
  for line in file:lines() do
    if not path then
      path, headers = line, {}
    elseif line ~= "" then
      local name, value = line:match("^([^:]+): (.*)$")
      headers[name] = value
    else
      table.insert(prepared, wrk.format("POST", path, headers, body))
      path = nil
    end
  end
  file:close()
  right, wrong, parked, started, last, first_wrong = 0, 0, 0, 0, 0, ""
end

function request()
  turn = turn % #prepared + 1
  return prepared[turn]
end

function delay()
  local at = now()
  if started == 0 then started = at end
  if at - started < seconds then return 0 end
  parked = parked + 1
  -- wrk's main thread sleeps for the whole of -d; a signal is the one thing that wakes it sooner.
  if parked == connections then ffi.C.kill(ffi.C.getpid(), SIGINT) end
  return FOREVER_MS
end

local function count(body)
  local found, position = 0, 1
  while true do
    local _, last = body:find(marker, position, true)
    if not last then return found end
    found, position = found + 1, last + 1
  end
end

function response(status, headers, body)
  last = now()
  if status == 200 and count(body) == markers and (closing == "-" or body:find(closing, -#closing - 8, true)) then
    right = right + 1
  else
    wrong = wrong + 1
    if first_wrong == "" then first_wrong = status .. " " .. body:sub(1, 400) .. " ... " .. body:sub(-200) end
  end
end

function done(summary, latency, requests)
  local t = threads[1]
  local e = summary.errors
  io.write(string.format(
    '\n@{"right":%d,"wrong":%d,"parked":%d,"socket_errors":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d}\n',
    t:get("right"), t:get("wrong"), t:get("parked"), e.connect + e.read + e.write + e.timeout,
    t:get("last") - t:get("started"), latency:percentile(50), latency:percentile(99)))
  if t:get("first_wrong") ~= "" then io.stderr:write(t:get("first_wrong"), "\n") end
end
