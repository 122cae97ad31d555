-- Assert the leases of a replica in a store that may have forgotten them.
--
-- A lease that is there is left as it is; one that is not is written as it was granted, and what it
-- holds is taken without asking whether there is room: it was granted. The answer says whether the
-- store knows what was spent (see epoch.lua).
--
-- KEYS[1]  beats   zset    replica.boot -> heartbeat expiry
-- KEYS[2]  leases  hash    attempt id -> lease, of this replica.boot
-- KEYS[3]  bar     string  the first number that is still welcome, of this replica.boot
-- KEYS[4]  epoch   hash    what is known of the store's memory (see epoch.lua)
-- KEYS[5+] scopes  hashes of every scope and deployment that the plans and their users name
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  member  this replica.boot, as it stands in beats
-- ARGV[3]  number  of this sending, counted with those of admit
-- ARGV[4]  last    1 when everything has been asserted with this call
-- ARGV[5]  partly  1 to leave out scopes whose limits are not known; 0 to be told of them first
-- ARGV[6]  count   number of plans that follow
-- ARGV[7+] plans   as for admit, then leases, each packed
--   lease {plan number, attempt id, input estimate, input bound, cap, assumed, n, first, user,
--          candidate, admitted at, enforced cap, fee}
--
-- Returns {the server's life, 2 known or 1 told or 0 learning, leases that were restored}; {keys ...}
-- of scopes that are not known, and nothing was done; the word FENCED when this replica's life has
-- ended in the eyes of the store; or the word LATE when this sending was given up.

--- @include gcra
--- @include governance:budget
--- @include scope
--- @include take
--- @include epoch

local now = clock(ARGV[1])
local alive = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not alive or tonumber(alive) < 0 then return 'FENCED' end
if tonumber(ARGV[3]) < tonumber(redis.call('GET', KEYS[3]) or 0) then return 'LATE' end

local pack = cmsgpack.pack
local memo, plans, leases, unknown = {}, {}, {}, {}
local plan_count = tonumber(ARGV[6])
for i = 1, plan_count do plans[i] = cmsgpack.unpack(ARGV[6 + i]) end

-- Takes a key, and perhaps the key of the limits that hold where it has none of its own. Returns its
-- scope, or false; notes which limits are not known.
local function find(key, default)
  local found = scope(memo, key, now, default)
  if not found then unknown[#unknown + 1] = default or key end
  return found
end

-- Takes what is asserted. Takes what it holds of every scope that is known; returns the lease.
local function take_lease(one)
  local plan, user, candidate = plans[one[1]], one[9], one[10]
  local input, bound, cap, assumed, n, enforced = one[3], one[4], one[5], one[6], one[7], one[12]
  local c, held = plan[2][candidate], {}
  local output = (cap > 0 and cap or assumed) * n
  local debit = input + output
  local theirs = { 1, debit, input, output }
  local wanted = one[8] == 1 and theirs or { 0, debit, input, output }
  local want = cap > 0 and cap or assumed
  if want > c[7] then want = c[7] end
  local fee = one[13]
  local estimate = priced(input, c[6]) + priced(want * n, c[5]) + c[9] + fee
  local most = priced(bound, c[4]) + c[9] + fee + priced(enforced * n, c[5])

  local function keep(st, number, what)
    if not st then return end
    take(st, what)
    if #st.l > st.l[6] then hold(st, number, most, estimate, held) end
  end

  for i, key in ipairs(plan[1]) do keep(find(key), i, wanted) end
  local users = user ~= '' and plan[4] or {}
  for k = 1, #users, 2 do
    keep(find(users[k] .. user, users[k + 1]), #plan[1] + (k + 1) / 2, wanted)
  end
  keep(find(c[1]), -1, theirs)
  keep(find(c[2]), -2, theirs)
  if c[10] and c[10] ~= '' then keep(find(c[10]), -3, theirs) end
  return pack({ candidate, one[11], debit, held, input, enforced, user, fee }) .. ARGV[6 + one[1]]
end

for i = 7 + plan_count, #ARGV do
  local one = cmsgpack.unpack(ARGV[i])
  if redis.call('HEXISTS', KEYS[2], one[2]) == 0 then
    leases[#leases + 1] = one[2]
    leases[#leases + 1] = take_lease(one)
  end
end
if #unknown > 0 and ARGV[5] ~= '1' then return unknown end

if #leases > 0 or stepped_back then write_scopes(memo) end
if #leases > 0 then redis.call('HSET', KEYS[2], unpack(leases)) end
local life, knows = learn(KEYS[4], KEYS[1], now, ARGV[4] == '1' and ARGV[2] or nil)
return { life, knows, #leases / 2 }
