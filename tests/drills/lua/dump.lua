-- What a whole database holds, to be put back (put_back.lua).
--
-- KEYS and ARGV: none. Returns a flat list: key, dump, and so on.

local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('DUMP', key)
end
return found
