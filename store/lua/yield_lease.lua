-- Give back a lease that we still hold, so that the next need not wait for its TTL.
--
-- KEYS[1]  lease  string  token of its holder, with a TTL
-- ARGV[1]  token  ours
--
-- Returns 1 when it was ours and is gone, 0 when it is another's or nobody's.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
