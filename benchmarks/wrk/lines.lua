-- The request of the source document: three sensors, many lines, each line's timestamps one second apart and rising.
-- Usage: wrk -t1 ... -s lines.lua URL -- LINES FIRST_SECOND. Reports the second after the last, for the next run.

local EPOCH = 1764928800 -- 2025-12-05T10:00:00Z
local BODY = '{"model_name":"lstm_defect_predictor","stream_id":"line-%02d","data":{"timestamp":"%s",' ..
  '"furnace_temperature":%d,"belt_speed":150.0,"pressure":15.5}}'
local threads = {}
local time, of_second = "", -1

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  lines = tonumber(args[1])
  row = tonumber(args[2]) * lines
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  local second = math.floor(row / lines)
  if second ~= of_second then
    of_second, time = second, os.date("!%Y-%m-%dT%H:%M:%SZ", EPOCH + second)
  end
  local body = string.format(BODY, row % lines, time, 1500 + second % 100)
  row = row + 1
  return wrk.format("POST", nil, nil, body)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'REPORT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "broken": %d, "next": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    math.floor(threads[1]:get("row") / threads[1]:get("lines")) + 1))
end
