-- Free what a dead replica held, and charge what it had streamed.
--
-- KEYS[1]  beats   zset    replica.boot -> heartbeat expiry; -1 is fenced
-- KEYS[2]  leases  hash    attempt id -> lease, of the dead replica.boot
-- KEYS[3]  graves  hash    attempt id -> tombstone, for a settlement that comes late
-- KEYS[4]  parts   hash    attempt id -> output tokens reported while streaming
-- KEYS[5]  ledger  stream  one field e: a packed entry
-- KEYS[6]  totals  hash    sums of all entries
-- KEYS[7+] scopes  hashes of every scope and deployment that the leases name, and the stream of
--                  events, as for settle
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  member  the dead replica.boot
-- ARGV[3+] ids     the attempts to reap, each once
--
-- Returns how many leases were reaped, or the word ALIVE. The tombstone of an attempt is
-- {1 once settled, input tokens, output tokens, cost, held, candidate, admitted at, user}, the last
-- four as in its lease.

--- @include gcra
--- @include governance:budget
--- @include scope
--- @include routing:choose
--- @include release

local now = clock(ARGV[1])
local alive = redis.call('ZSCORE', KEYS[1], ARGV[2])
if alive and tonumber(alive) >= 0 then return 'ALIVE' end

-- Read and reckon.
local unpack_one, pack = cmsgpack.unpack_one, cmsgpack.pack
local memo, reaped, graves, entries, events = {}, {}, {}, {}, {}
local input_sum, output_sum, cost_sum = 0, 0, 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local lease = redis.call('HGET', KEYS[2], id)
  if lease then
    local at, head = unpack_one(lease)
    local _, plan = unpack_one(lease, at)
    local c = plan[2][head[1]]
    local reported = redis.call('HGET', KEYS[4], id)
    local output = tonumber(reported or 0)
    -- What has told how far it was owes that, and not the most that it might have become.
    local fee = not reported and head[8] or 0
    local input = head[5]
    local cost = priced(input, c[6]) + priced(output, c[5]) + c[9] + fee
    local d = give_back(memo, now, head, plan, input, output, cost, true, events)
    if d then unclaim(d, id) end
    local e = entry_for(plan, id, head[1], head[2], head[7], now)
    e[15], e[18], e[22] = input, output, cost
    reaped[#reaped + 1] = id
    graves[#graves + 1] = id
    graves[#graves + 1] = pack({ 0, input, output, cost, head[4], head[1], head[2], head[7] })
    entries[#entries + 1] = pack(e)
    input_sum, output_sum, cost_sum = input_sum + input, output_sum + output, cost_sum + cost
  end
end

-- Write.
if #reaped > 0 then
  redis.call('HSET', KEYS[3], unpack(graves))
  redis.call('EXPIRE', KEYS[3], REMEMBER)
  redis.call('HDEL', KEYS[2], unpack(reaped))
  redis.call('HDEL', KEYS[4], unpack(reaped))
  write_scopes(memo)
  write_health(memo, now)
  book(KEYS[5], KEYS[6], entries, input_sum, output_sum, cost_sum)
  announce(KEYS[5], events)
end
if redis.call('HLEN', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[4])
end
return #reaped
