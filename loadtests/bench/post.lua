-- Post bodies over and over, one after the other, and tell in one line of JSON what came of it.
--
-- Takes (after `--` on wrk's command line):
--   args[1]  file that holds the bodies, one per line
--   args[2]  caller's key, sent as a bearer token
--   args[3]  connections, and
--   args[4]  spread in milliseconds: each connection's first request waits a random part of it, so that paced
--            streams do not beat in step; 0 sends everything at once
--
-- Gives: a line "penstock-bench {...}" with requests, duration_us, bytes, latencies in microseconds, and errors by kind
-- (status counts answers of 400 and above).

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. args[2]
  local bodies = {}
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
  wrk.body = bodies[1]
  if #bodies > 1 then
    local requests, at = {}, 0
    for i, body in ipairs(bodies) do requests[i] = wrk.format(nil, nil, nil, body) end
    function request()
      at = at % #requests + 1
      return requests[at]
    end
  end
  local first, spread = tonumber(args[3]), tonumber(args[4])
  if spread > 0 then
    math.randomseed(1)
    function delay()
      if first <= 0 then return 0 end
      first = first - 1
      return math.random(0, spread)
    end
  end
end

function done(summary, latency, requests)
  io.write(string.format(
    'penstock-bench {"requests":%d,"duration_us":%d,"bytes":%d,'
      .. '"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,'
      .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.status, summary.errors.timeout))
end
