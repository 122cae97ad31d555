-- What a whole database holds: each key with its type and its content.
--
-- KEYS and ARGV: none. Returns a flat list: key, type, content, and so on. Contents: a string as it
-- is, a hash as fields and values, a sorted set as members and scores, a stream as its entries.

local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key)['ok']
  local content
  if kind == 'string' then
    content = redis.call('GET', key)
  elseif kind == 'hash' then
    content = redis.call('HGETALL', key)
  elseif kind == 'zset' then
    content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else
    content = redis.call('XRANGE', key, '-', '+')
  end
  local n = #found
  found[n + 1], found[n + 2], found[n + 3] = key, kind, content
end
return found
