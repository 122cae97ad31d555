-- Put up what is known right now, for all replicas to read.
--
-- KEYS[1]  board    string  packed {version, content}; passes away
-- KEYS[2]  last     string  the last version that was ever up
-- ARGV[1]  content  opaque here
-- ARGV[2]  keep     milliseconds after which it is too old to be read
--
-- Returns the version: one more than before, or the same when nothing has changed.

local before = redis.call('GET', KEYS[1])
if before then
  local old = cmsgpack.unpack(before)
  if old[2] == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return old[1]
  end
end
-- Counted apart: what passed away must not be followed by another of the same version.
local version = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], cmsgpack.pack({ version, ARGV[1] }), 'PX', ARGV[2])
return version
