-- Settle a batch of attempts: replace each estimate by the truth, free the lease, teach health
-- and load, append the ledger entry. All in one step, so that the sum of the ledger equals the
-- counters at every instant.
--
-- A batch is applied at most once: it carries a sequence number of its replica.boot, and what was
-- applied is remembered beyond the life of that replica (see lives.lua; of what was not born, for
-- REMEMBER). A batch whose answer got lost is sent again as it is.
--
-- KEYS[1]  leases  hash    attempt id -> lease, of this replica.boot
-- KEYS[2]  seen    string  number of the last batch applied, of this replica.boot
-- KEYS[3]  bar     string  the first sending of admit that is still welcome, of this replica.boot
-- KEYS[4]  graves  hash    attempt id -> tombstone, of this replica.boot
-- KEYS[5]  parts   hash    attempt id -> output tokens reported while streaming
-- KEYS[6]  ledger  stream  one field e: a packed entry
-- KEYS[7]  totals  hash    sums of all entries
-- KEYS[8+] scopes  hashes of every scope and deployment that the plans and their users name, and the
--                  stream of events: one field e, {scope key, kind, period id, percent, amount,
--                  spent, strict, now}, packed (see governance/lua/budget.lua)
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  number  of this batch, rising by one
-- ARGV[3]  void_to sendings of admit below this number are given up; 0 when there are none
-- ARGV[4]  count   number of plans that follow
-- ARGV[5+] plans   as for admit, then settlements, each packed
--   settlement {plan number, attempt id, candidate, input tokens, output tokens, cost, health,
--               ttft_us, cool_us, void, streamed, entry, user, kind, left}
--     health: 0 says nothing, 1 fine, 2 failed, 3 throttled, 4 nobody is there; cool_us: what the vendor
--     asked for; kind: of the call, see breaker.lua, or 4 for a batch, whose tokens no rate counts; left: {requests, for how long, tokens, for how long},
--     as the vendor said, or 0
--     void: 1 gives the lease back without an entry (the answer of admit came too late); what the
--     reaper charged for it meanwhile is taken back
--     streamed: 1 when progress was reported; entry: the packed ledger entry; user: as in the ask
--
-- Returns how many settlements were applied, or the word SEEN when the batch had been before.

--- @include gcra
--- @include governance:budget
--- @include scope
--- @include queue
--- @include routing:choose
--- @include release

local now = clock(ARGV[1])
local seen = redis.call('GET', KEYS[2])
if seen and tonumber(seen) >= tonumber(ARGV[2]) then return 'SEEN' end

-- Read and reckon. Whatever is wrong with a batch shows here, before anything is written.
local unpack_one, pack = cmsgpack.unpack_one, cmsgpack.pack
local memo, plans, ids, streamed, graves, read_graves = {}, {}, {}, {}, {}, {}
local plan_count = tonumber(ARGV[4])
for i = 1, plan_count do plans[i] = cmsgpack.unpack(ARGV[4 + i]) end

local BATCHED = 4
local settlements = {}
for i = 5 + plan_count, #ARGV do
  local one = cmsgpack.unpack(ARGV[i])
  settlements[#settlements + 1] = one
  ids[#ids + 1] = one[2]
  if one[11] == 1 then streamed[#streamed + 1] = one[2] end
end
local leases = redis.call('HMGET', KEYS[1], unpack(ids))

-- The difference between what the reaper charged and the truth, as an entry of its own.
local function corrected(entry, grave)
  local e = cmsgpack.unpack(entry)
  e[1] = e[1] .. '+settle'
  e[15], e[18], e[22] = e[15] - grave[2], e[18] - grave[3], e[22] - grave[4]
  return pack(e)
end

-- The entry of an attempt that was reaped and, as its replica knows, never sent.
local function unsent(plan, id, grave)
  local e = entry_for(plan, id, grave[6] or 1, grave[7] or now, grave[8] or '', now)
  e[15], e[18], e[22], e[26], e[28] = 0, 0, 0, 'void', 'none'
  return pack(e)
end

local entries, input_sum, output_sum, cost_sum, events, freed = {}, 0, 0, 0, {}, {}
for i, one in ipairs(settlements) do
  local plan = plans[one[1]]
  local input, output, cost = one[4], one[5], one[6]
  local entry = one[10] ~= 1 and one[12]
  local lease, d, admitted = leases[i], nil, now
  if lease then
    local _, head = unpack_one(lease)
    admitted = head[2]
    d = give_back(memo, now, head, plan, input, output, cost, true, events)
    if d and queue_of(d, now) then
      freed[d] = (freed[d] or 0) + 1
      correct(d, plan[5], (input + output - head[3]) / plan[6])
    end
  else
    local void = one[10] == 1
    local grave = read_graves[one[2]]
    if not grave then
      local raw = redis.call('HGET', KEYS[4], one[2])
      grave = raw and cmsgpack.unpack(raw)
    end
    if grave then
      -- Reaped before it settled: charge the difference, once.
      read_graves[one[2]] = grave
      entry = false
      if grave[1] ~= 1 then
        local candidate = grave[6] or one[3]
        input, output, cost = input - grave[2], output - grave[3], cost - grave[4]
        entry = corrected(void and unsent(plan, one[2], grave) or one[12], grave)
        local head = { candidate, now, 0, grave[5], 0, 0, grave[8] }
        local rated = one[14] ~= BATCHED
        give_back(memo, now, head, plan, rated and input or 0, rated and output or 0, cost, false,
          events)
        let_go(memo, now, grave)
        grave[1] = 1
        graves[#graves + 1] = one[2]
        graves[#graves + 1] = pack(grave)
      end
    elseif not void then
      -- The store lost the lease (a flush, a lost tail): its holds went with it, the use did not.
      local head = { one[3], now, 0, nil, 0, 0, one[13] }
      d = give_back(memo, now, head, plan, input, output, cost, false, events)
    end
  end
  if d and one[7] > 0 then
    learn(d, now, one[7], one[8], one[9], one[14] or 1, one[2], admitted)
    d.dirty = true
  elseif d then
    unclaim(d, one[2])
  end
  -- What a vendor said of its limits is true however the attempt ended.
  if d and one[15] and one[15] ~= 0 then noted(d, now, one[15]) end
  if entry then
    entries[#entries + 1] = entry
    input_sum, output_sum, cost_sum = input_sum + input, output_sum + output, cost_sum + cost
  end
end

-- Write. The number comes first: whatever happens from here on, nothing is applied twice.
if seen then
  redis.call('SET', KEYS[2], ARGV[2], 'KEEPTTL')
else
  redis.call('SET', KEYS[2], ARGV[2], 'EX', REMEMBER)
end
if tonumber(ARGV[3]) > tonumber(redis.call('GET', KEYS[3]) or 0) then
  redis.call('SET', KEYS[3], ARGV[3], 'EX', REMEMBER)
end
write_scopes(memo)
redis.call('HDEL', KEYS[1], unpack(ids))
if #streamed > 0 then redis.call('HDEL', KEYS[5], unpack(streamed)) end
if #graves > 0 then redis.call('HSET', KEYS[4], unpack(graves)) end
book(KEYS[6], KEYS[7], entries, input_sum, output_sum, cost_sum)
announce(KEYS[6], events)
write_queues(memo)
write_health(memo, now)
call_next(freed, string.match(KEYS[1], '^(.-:)') .. 'w:')
return #settlements
