-- Free what a replica held whose life has ended, and charge what it had streamed.
--
-- KEYS[1]  beats   zset    replica.boot -> heartbeat expiry, or how its life ended (see lives.lua)
-- KEYS[2]  leases  hash    attempt id -> lease, of the dead replica.boot
-- KEYS[3]  graves  hash    attempt id -> tombstone, for a settlement that comes late
-- KEYS[4]  parts   hash    attempt id -> output tokens reported while streaming
-- KEYS[5]  seen    string  number of the last batch of settlements applied, of the dead replica.boot
-- KEYS[6]  ledger  stream  one field e: a packed entry
-- KEYS[7]  totals  hash    sums of all entries
-- KEYS[8+] scopes  hashes of every scope and deployment that the leases name, and the keys in what stays
--                  reserved, and the stream of events, as for settle
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  member  that replica.boot
-- ARGV[3]  last    with the last of its attempts, how its life had ended when the first were looked for; else 0.
--                  Should it have become known since that it is dead, what stays is still to be looked for
-- ARGV[4+] ids     the attempts to reap, and those reaped before of which something stays, each once
--
-- Returns how many leases were reaped, or the word ALIVE. The tombstone of an attempt is
-- {1 once settled, input tokens, output tokens, cost, held, candidate, admitted at, user, stays}:
-- held, candidate, admitted at and user as in its lease; stays, if there is something, as release.lua has it.
-- Of the dead, tombstones and the number are forgotten after REMEMBER; of the silent they are kept.

--- @include gcra
--- @include governance:budget
--- @include scope
--- @include routing:choose
--- @include release
--- @include lives

local now = clock(ARGV[1])
local ended = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or DEAD)
if ended >= 0 then return 'ALIVE' end
local may_return = ended ~= DEAD

-- Read and reckon.
local unpack_one, pack = cmsgpack.unpack_one, cmsgpack.pack
local memo, reaped, graves, entries, events = {}, {}, {}, {}, {}
local input_sum, output_sum, cost_sum = 0, 0, 0
for i = 4, #ARGV do
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
    local stays = may_return and {} or nil
    local d = give_back(memo, now, head, plan, input, output, cost, true, events, stays)
    if d then unclaim(d, id) end
    local e = entry_for(plan, id, head[1], head[2], head[7], now)
    e[15], e[18], e[22] = input, output, cost
    reaped[#reaped + 1] = id
    graves[#graves + 1] = id
    local grave = { 0, input, output, cost, head[4], head[1], head[2], head[7] }
    if stays and #stays > 0 then grave[9] = stays end
    graves[#graves + 1] = pack(grave)
    entries[#entries + 1] = pack(e)
    input_sum, output_sum, cost_sum = input_sum + input, output_sum + output, cost_sum + cost
  elseif not may_return then
    local raw = redis.call('HGET', KEYS[3], id)
    local grave = raw and cmsgpack.unpack(raw)
    if grave and grave[9] then
      let_go(memo, now, grave)
      graves[#graves + 1] = id
      graves[#graves + 1] = pack(grave)
    end
  end
end

-- Write.
if #graves > 0 then
  redis.call('HSET', KEYS[3], unpack(graves))
  write_scopes(memo)
end
if #reaped > 0 then
  redis.call('HDEL', KEYS[2], unpack(reaped))
  redis.call('HDEL', KEYS[4], unpack(reaped))
  write_health(memo, now)
  book(KEYS[6], KEYS[7], entries, input_sum, output_sum, cost_sum)
  announce(KEYS[6], events)
end
if tonumber(ARGV[3]) == ended and redis.call('HLEN', KEYS[2]) == 0 then
  if ended == SILENT then
    redis.call('ZADD', KEYS[1], string.format('%.0f', -now), ARGV[2])
  elseif not may_return then
    redis.call('ZREM', KEYS[1], ARGV[2])
    redis.call('EXPIRE', KEYS[3], REMEMBER)
    redis.call('EXPIRE', KEYS[5], REMEMBER)
  end
  redis.call('DEL', KEYS[4])
end
return #reaped
