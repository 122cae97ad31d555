-- Write the limits of scopes, unless newer ones are there already. Limits of version 0 are the least share
-- of what is divided over cells (see share.lua): they are written only where nothing is.
--
-- KEYS[1+] scopes   hashes
-- ARGV[1]  version  of the configuration that the limits come from
-- ARGV[2+] limits   packed, one per key (see scope.lua)
--
-- Returns how many were written. A state that exists is left as it is, and no longer passes away: it
-- may be a user's who had no limits of his own until now.

local written = 0
for i, key in ipairs(KEYS) do
  local raw = redis.call('HGET', key, 'l2')
  local least = cmsgpack.unpack(ARGV[1 + i])[1] == 0
  if not raw or (not least and cmsgpack.unpack(raw)[1] <= tonumber(ARGV[1])) then
    redis.call('HSET', key, 'l2', ARGV[1 + i])
    redis.call('PERSIST', key)
    written = written + 1
  end
end
return written
