-- Put up what is known right now, for all replicas to decide by from one moment on.
--
-- KEYS[1]  board    string  packed {version, content, from}; passes away
-- KEYS[2]  last     string  the last version that was ever up
-- ARGV[1]  now      us since 2024-01-01; empty asks the server (tests pass a value)
-- ARGV[2]  content  opaque here
-- ARGV[3]  keep     milliseconds after which it is too old to be read
-- ARGV[4]  ahead    us from now on after which it holds: long enough for every replica to have read it
--
-- Returns the version that is up: one more than before; the same when nothing has changed, and while it does not hold
-- yet, so that no replica misses one.

--- @include moment

local now = moment(ARGV[1])
local before = redis.call('GET', KEYS[1])
if before then
  local old = cmsgpack.unpack(before)
  if old[2] == ARGV[2] or (now < old[3] and old[3] <= now + ARGV[4]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return old[1]
  end
end
-- Counted apart: what passed away must not be followed by another of the same version.
local version = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], cmsgpack.pack({ version, ARGV[2], now + ARGV[4] }), 'PX', ARGV[3])
return version
