-- Renew a lease that we still hold.
--
-- KEYS[1]  lease   string  token of its holder, with a TTL
-- ARGV[1]  token   ours
-- ARGV[2]  ttl_ms  how long it holds from now on
--
-- Returns 1 when it was ours and is renewed, 0 when it is another's or nobody's.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
