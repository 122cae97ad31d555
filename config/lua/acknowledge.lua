-- Note which version of the configuration a replica runs, or cannot take.
--
-- KEYS[1]  replicas  hash  replica -> "at_us number error"
-- ARGV[1]  replica   who it is, with its boot
-- ARGV[2]  number    of the version that it was told of last
-- ARGV[3]  error     why it could not take that one; empty when it runs it
-- ARGV[4]  most      how many replicas are remembered; the longest silent are forgotten first
-- ARGV[5]  now       us since 1970; empty asks the server (tests pass a value)
--
-- Returns how many replicas are remembered.

local replicas = KEYS[1]
local replica, number, error_text = ARGV[1], ARGV[2], ARGV[3]
local most, now = tonumber(ARGV[4]), ARGV[5]

if now == '' then
  local time = redis.call('TIME')
  now = time[1] .. string.format('%06d', time[2])
end
redis.call('HSET', replicas, replica, now .. ' ' .. number .. ' ' .. error_text)

local count = redis.call('HLEN', replicas)
if count > most then
  local all, ages = redis.call('HGETALL', replicas), {}
  for i = 1, #all, 2 do
    ages[#ages + 1] = {tonumber(all[i + 1]:match('^(%d+)')) or 0, all[i]}
  end
  table.sort(ages, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  for i = 1, count - most do redis.call('HDEL', replicas, ages[i][2]) end
  count = most
end
return count
