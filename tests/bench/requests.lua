-- Sends the requests of a file in turn: a line with the length, then that many bytes. Arguments: the file, at which
-- request to begin, and how many milliseconds each connection waits before each request (in the mean; 0: it does not).
local requests, count, worker = {}, 0, nil

function setup(thread)
  worker = thread
end

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  following = tonumber(arguments[2])
  while true do
    local size = file:read("*l")
    if not size then break end
    count = count + 1
    requests[count] = file:read(tonumber(size))
  end
  file:close()
  local pause = tonumber(arguments[3])
  if pause > 0 then
    function delay() return math.random(pause / 2, pause * 3 / 2) end
  end
end

function request()
  following = following + 1
  return requests[(following - 1) % count + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"us":%d,"status":%d,"socket":%d,"p50_us":%.1f,"p99_us":%.1f,"following":%d}\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), worker:get("following")))
end
