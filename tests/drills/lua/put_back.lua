-- Make a database what it was: everything that is there goes, every dump comes back.
--
-- KEYS: none. ARGV: key, dump, and so on. Returns OK.

redis.call('FLUSHDB')
for i = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end
return 'OK'
