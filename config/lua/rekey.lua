-- Put keyed hashes into a version that is kept; it means what it meant, so nobody is told.
--
-- KEYS[1]  live      hash  see publish.lua
-- ARGV[1]  number    of the version
-- ARGV[2]  digest    of the document as it was read: another one is left alone
-- ARGV[3]  document  with its hashes keyed
-- ARGV[4]  new       digest of that document
-- ARGV[5]  key_id    of the secret that keyed them
--
-- Returns 1 when it was written, 0 when the version has gone or is another.

local live = KEYS[1]
local number, digest, document, new, key_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if redis.call('HGET', live, number .. ':digest') ~= digest then return 0 end
redis.call('HSET', live,
  number .. ':document', document, number .. ':digest', new, number .. ':key_id', key_id)
return 1
