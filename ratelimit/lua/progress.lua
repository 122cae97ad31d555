-- Note what long streams have given so far, so that a crash charges what was streamed.
--
-- KEYS[1]  leases   hash  attempt id -> lease, of this replica.boot
-- KEYS[2]  parts    hash  attempt id -> output tokens so far
-- ARGV[1+] reports  attempt id, output tokens, in turn
--
-- Returns how many were noted; attempts without a lease are passed over.

local noted = 0
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    noted = noted + 1
  end
end
return noted
