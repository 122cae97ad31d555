-- Add what a replica has seen to what all have learned, and remember whose calls may still be judged.
--
-- KEYS[1]  lessons  hash  model NUL task or kind -> lesson (see lesson.lua)
-- KEYS[2]  asked    hash  request id -> {key, model, task or kind}; passes away
-- ARGV[1]  now      us since 2024-01-01; empty asks the server (tests pass a value)
-- ARGV[2]  keep     seconds for which a call may be judged
-- ARGV[3]  count    number of lessons
-- ARGV[4+] rows     a field and its packed eight sums for each lesson, then a request id and its packed call each
--
-- Returns how many lessons were added to.

--- @include lesson

local now, count = moment(ARGV[1]), tonumber(ARGV[3])
for i = 4, 2 + 2 * count, 2 do
  add(KEYS[1], ARGV[i], cmsgpack.unpack(ARGV[i + 1]), now)
end
if #ARGV > 3 + 2 * count then
  for i = 4 + 2 * count, #ARGV, 2 do
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return count
