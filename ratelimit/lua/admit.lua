-- Admit a batch of attempts: every limit, every budget and the choice of the deployment, at once.
--
-- For each ask: read every scope, decide, then take everything or nothing. A denied ask changes
-- no key (but for the repair of a state that the clock has stepped back from). Each ask of a batch
-- sees what the ones before it took.
--
-- A batch that is sent again raises the bar to its own number, and so does the settlement that
-- gives its asks up: a copy of it that the server comes to later must not take anything.
--
-- KEYS[1]  beats   zset    replica.boot -> heartbeat expiry
-- KEYS[2]  leases  hash    attempt id -> lease, of this replica.boot
-- KEYS[3]  bar     string  the first number that is still welcome, of this replica.boot
-- KEYS[4+] scopes  hashes of every scope and deployment that the plans and their users name (see scope.lua)
-- ARGV[1]  now     us since 2024-01-01; empty asks the server (tests pass a value)
-- ARGV[2]  member  this replica.boot, as it stands in beats
-- ARGV[3]  number  of this sending, rising with each
-- ARGV[4]  again   1 when the batch may have run before: answers of existing leases are repeated
-- ARGV[5]  count   number of plans that follow
-- ARGV[6+] plans   then asks, each packed
--   plan {scope keys,
--         {{deployment key, model key, tier, input, output, input_estimate, most, provider,
--           request, provider's scope key or ''}, ...},
--         entry,
--         {what a user's scope key begins with, key of the limits of users without their own, ...},
--         tenant, weight}
--        input, output: dearest nano-USD per thousand tokens; input_estimate: the usual rate;
--        request: nano-USD per attempt; most: output tokens that the model can give at most;
--        provider, entry: for the reaper, opaque here; tenant, weight: see queue.lua
--   ask  {plan number, attempt id, input estimate, input bound, cap, assumed, n, first, excluded,
--         tie, user, level, may_wait, tiers, fees, kind, favoured}
--        cap: output tokens the caller allows per choice, 0 when not said; assumed: what to expect
--        then; n: choices, 0 when there is no output; first: 1 unless a retry (which asks no second request of the caller);
--        excluded: candidate numbers; tie: any integer; user: whose scopes these are, and for the reaper;
--        level: 1 premium, 2 normal, 3 economy; may_wait: 1 takes a ticket when all is full, 0 gives it back;
--        tiers: one byte per candidate, its tier for this ask (255: left out); '' leaves them to the plan;
--        fees: nano-USD for each candidate that the call may cost beside its tokens, or nothing;
--        kind: of the call, 1 whole, 2 stream, 3 tools (see breaker.lua); favoured: the candidate that is
--        preferred where load allows it, or 0 (see choose.lua)
--
-- Returns a list with one packed answer per ask, the word FENCED when this replica's life
-- has ended in the eyes of the store, or the word LATE when nobody waits for this sending any more.
--   {1, candidate, cap to enforce or 0, now, limits, why, lost, latency}           granted
--        latency: to the first byte there, as all replicas see it, in us; 0 when not known
--   {0, what, scope number, limit, retry_us, now, limits, which}                   denied
--        what: 1 requests, 2 tokens, 3 concurrency, 4 budget, 5 larger than the limit itself
--        retry_us: when the same ask would be granted, if nothing else happened; for a budget until its
--        period ends, 0 when it never does
--        scope number: the plan's scopes, then the user's; which: the limit's code, or the budget's
--        kind; 0 for concurrency
--   {2, keys ...}                                                                   unknown scopes
--   {3, retry_us, lost, now, limits, queued}                                        nobody to serve it
--        queued: 1 when a ticket was given: to be asked again within a tenth of a second, or when called
--   limits {limit, remaining, reset_us of requests, limit, remaining, reset_us of tokens}
--   lost   one sign per candidate: 0 chosen or feasible, 1 drained, 2 cooling, 3 concurrency,
--          4 requests, 5 tokens, 6 its model's limits, 7 budget, 8 excluded, 9 throttled,
--          a the budget of its deployment, model or provider, b its provider's limits,
--          c what is free there is for those who wait, d left out by the ask's tiers,
--          e half-open and being tried, f offline
--   why    1 the only candidate, 2 declared order, 3 load, 4 all were failing: the least bad (not for a retry), 5 to try it, 6 favoured

--- @include gcra
--- @include governance:budget
--- @include scope
--- @include take
--- @include queue
--- @include routing:choose

local now = clock(ARGV[1])
local alive = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not alive or tonumber(alive) < 0 then return 'FENCED' end
local again = ARGV[4] == '1'
if tonumber(ARGV[3]) < tonumber(redis.call('GET', KEYS[3]) or 0) then return 'LATE' end
if again then redis.call('SET', KEYS[3], ARGV[3], 'EX', REMEMBER) end

local unpack_one, pack = cmsgpack.unpack_one, cmsgpack.pack
local memo, plans, answers, leases = {}, {}, {}, {}
local plan_count = tonumber(ARGV[5])
local LEAST_CAP = 256
local byte, UNSUITABLE = string.byte, 255
-- What a candidate loses by that frees by itself, and soon.
local SATURATED = { [3] = true, [4] = true, [5] = true, [6] = true, b = true, c = true }
local replica = string.match(ARGV[2], '^(.*)%.') or ARGV[2]
-- Less than what is off where limits are compared by their scale alone.
local almost_now = now - 1
-- What the ask in hand wants: {requests, tokens, input tokens, output tokens}.
local theirs = { 1, 0, 0, 0 }

for i = 1, plan_count do
  local plan = cmsgpack.unpack(ARGV[5 + i])
  local unknown = {}
  plan.scopes, plan.candidates = {}, {}
  for j, key in ipairs(plan[1]) do
    local found = scope(memo, key, now)
    if found then plan.scopes[j] = found else unknown[#unknown + 1] = key end
  end
  for j, c in ipairs(plan[2]) do
    local d, m, p = scope(memo, c[1], now, nil, true), scope(memo, c[2], now), nil
    if not d then unknown[#unknown + 1] = c[1] end
    if not m then unknown[#unknown + 1] = c[2] end
    if c[10] and c[10] ~= '' then
      p = scope(memo, c[10], now)
      if not p then unknown[#unknown + 1] = c[10] end
    end
    plan.candidates[j] = { d = d, m = m, p = p, tier = c[3], input = c[4], output = c[5],
      input_estimate = c[6], most = c[7], request = c[9],
      throttled = d and throttled(d, now),
      budgets = d and m and (#d.l > d.l[6] or #m.l > m.l[6] or (p and #p.l > p.l[6])) }
  end
  if #unknown > 0 then plan.unknown = unknown end
  plans[i] = plan
end

-- Takes a plan and a user. Returns the caller's scopes, the user's among them, or nil and the keys of
-- those that are unknown.
local function scopes_of(plan, user)
  local users = plan[4]
  if #users == 0 or user == '' then return plan.scopes end
  local scopes, unknown = { unpack(plan.scopes) }, {}
  for k = 1, #users, 2 do
    local found = scope(memo, users[k] .. user, now, users[k + 1])
    if found then scopes[#scopes + 1] = found else unknown[#unknown + 1] = users[k + 1] end
  end
  if #unknown > 0 then return nil, unknown end
  return scopes
end

-- Takes a scope and {requests, tokens, input, output} that are wanted. Returns how long until all of
-- it fits, 0 when it does, and the place of the limit that frees last. What is larger than a bucket
-- waits for a full one.
local function wait_for(st, wanted)
  local l, s, at = st.l, st.s, st.at
  local worst, which = 0, 0
  for r = 7, l[6], 6 do
    at = at + 1
    local amount = wanted[l[r]]
    -- Nearly always it fits by far; else it is reckoned exactly.
    if s[at] + amount * l[r + 1] - l[r + 2] > almost_now and amount > 0 then
      if amount > l[r + 4] then amount = l[r + 4] end
      local over = s[at] - now - l[r + 2] + moved(l[r + 5], l[r + 3], amount)
      if over > worst then worst, which = over, r end
    end
  end
  return ceil(worst), which
end

-- Takes a scope and an estimate of input. Returns the place of a limit whose bucket never holds as much.
local function too_large(st, input)
  local l = st.l
  if not st.least then
    st.least, st.least_at = math.huge, nil
    for r = 7, l[6], 6 do
      if (l[r] == TOKENS or l[r] == INPUT) and l[r + 4] < st.least then
        st.least, st.least_at = l[r + 4], r
      end
    end
  end
  return input > st.least and st.least_at
end

-- Takes a scope. Returns whether as much is under way there as may be.
local function is_full(st)
  return st.l[3] > 0 and st.s[2] >= st.l[3]
end

-- Takes a limit's scope, its place there and that of its tat. Returns its limit, remaining and reset_us.
local function shown(st, r, at)
  if not st then return 0, 0, 0 end
  local tat = st.s[at]
  return st.l[r + 3], left(st.l, r, tat, now), floor(tat - now)
end

-- Takes the caller's scopes. Returns the tightest limit of requests and of tokens, for headers.
local function tightest(scopes)
  local requests, tokens = -1, -1
  local r_st, r_r, r_at, t_st, t_r, t_at
  for i = 1, #scopes do
    local st = scopes[i]
    local l, s, at = st.l, st.s, st.at
    for r = 7, l[6], 6 do
      at = at + 1
      local used = (s[at] - now) / l[r + 2]
      if l[r] == REQUESTS then
        if used > requests then requests, r_st, r_r, r_at = used, st, r, at end
      elseif used > tokens then
        tokens, t_st, t_r, t_at = used, st, r, at
      end
    end
  end
  local a, b, c = shown(r_st, r_r, r_at)
  return { a, b, c, shown(t_st, t_r, t_at) }
end

-- Takes a scope. Returns the least room of its strict budgets, nil without one, the place of the
-- first budget that is spent, and the place of the strict one with the least room.
local function room_of(st)
  local l, s = st.l, st.s
  local least, spent, tight
  local m, kind = st.money - 6, 0
  for b = l[6] + 1, #l, 7 do
    if l[b] ~= kind then m, kind = m + 6, l[b] end
    local room = amount_of(l, b, now) - s[m + 2] - s[m + 3]
    if room <= 0 and not spent then spent = b end
    if l[b + 2] == 1 and (not least or room < least) then least, tight = room, b end
  end
  return least, spent, tight
end

-- Takes a candidate whose scopes have budgets. Returns the least room of the strict ones, nil without
-- one, or false when one of them is spent.
local function own_room(c)
  local least
  for _, st in ipairs({ c.d, c.m, c.p }) do
    local room, spent = room_of(st)
    if spent then return false end
    if room and (not least or room < least) then least = room end
  end
  return least
end

-- Takes a candidate that has room. Returns for how many such calls it has.
local function places(c)
  local n = math.huge
  for _, st in ipairs({ c.d, c.m, c.p }) do
    local l, s, at = st.l, st.s, st.at
    if l[3] > 0 and l[3] - s[2] < n then n = l[3] - s[2] end
    for r = 7, l[6], 6 do
      at = at + 1
      local amount = theirs[l[r]]
      if amount > 0 then n = math.min(n, math.max(floor(left(l, r, s[at], now) / amount), 1)) end
    end
  end
  return n
end

-- Takes a plan and an ask. Returns its ticket, as queue.lua has it.
local function ticket_of(plan, ask)
  return { ask[2], replica, ask[12], plan[5], now, 0 }
end

-- Takes a plan's candidates, but for one perhaps, and an attempt id. Gives back its tickets.
local function leave_all(candidates, but, id)
  for j, c in ipairs(candidates) do
    local q = j ~= but and queue_of(c.d, now)
    if q and leave(q, id) then c.d.requeued = true end
  end
end

-- Takes the caller's scopes, the number of one and the place of its budget. Returns the refusal.
local function unaffordable(scopes, i, b)
  local l = scopes[i].l
  local ends = period_end(l[b + 5], l[b], now)
  return { 0, 4, i, amount_of(l, b, now), ends > 0 and ends - now or 0, now, tightest(scopes), l[b] }
end

-- Takes the candidates, the numbers of those that are excluded, the ask's tiers, and what is wanted.
-- Returns how long until the rates of one of them give as much: a caller who is told when his own limit
-- frees must not come back to a vendor's.
local function soonest_of(candidates, excluded, tiers, wanted)
  local soonest
  for j, c in ipairs(candidates) do
    local out = c.d.l[5] == 1 or byte(tiers, j) == UNSUITABLE
    for _, k in ipairs(excluded) do out = out or k == j end
    if not out then
      local wait = math.max(wait_for(c.d, wanted), (wait_for(c.m, wanted)))
      wait = math.max(wait, c.throttled, c.p and (wait_for(c.p, wanted)) or 0)
      if not soonest or wait < soonest then soonest = wait end
    end
  end
  return soonest or 0
end

-- Takes a plan and an ask. Returns the answer, and the lease when it is granted.
local function decide(plan, ask)
  if plan.unknown then return { 2, unpack(plan.unknown) } end
  local candidates = plan.candidates
  local scopes, unknown = scopes_of(plan, ask[11])
  if not scopes then return { 2, unpack(unknown) } end
  local input, bound, cap, assumed, n, tiers = ask[3], ask[4], ask[5], ask[6], ask[7], ask[14] or ''
  local fees = ask[15] or {}
  local output = (cap > 0 and cap or assumed) * n
  local debit = input + output
  theirs[2], theirs[3], theirs[4] = debit, input, output
  local wanted = ask[8] == 1 and theirs or { 0, debit, input, output }

  -- The caller's own limits. The one that frees last is the one that binds.
  local worst, what, which, limit, code = -1, 0, 0, 0, 0
  local strict_room, strict_scope, strict_budget
  for i = 1, #scopes do
    local st = scopes[i]
    local l = st.l
    if l[6] > 6 and input > 0 then
      local r = too_large(st, input)
      if r then return { 0, 5, i, l[r + 4], 0, now, tightest(scopes), l[r + 5] } end
    end
    local wait, r = wait_for(st, wanted)
    if wait > 0 and wait > worst then
      worst, which, limit, code = wait, i, l[r + 3], l[r + 5]
      what = l[r] == REQUESTS and 1 or 2
    end
    if worst < 0 and is_full(st) then
      worst, what, which, limit, code = 0, 3, i, l[3], 0
    end
    if #l > l[6] then
      local room, spent, tight = room_of(st)
      if spent then return unaffordable(scopes, i, spent) end
      if room and (not strict_room or room < strict_room) then
        strict_room, strict_scope, strict_budget = room, i, tight
      end
    end
  end
  if worst > 0 then worst = math.max(worst, soonest_of(candidates, ask[9], tiers, theirs)) end
  if worst >= 0 then return { 0, what, which, limit, worst, now, tightest(scopes), code } end

  -- The candidates: who could serve it, and the best of the lowest tier that has one.
  local excluded = {}
  for _, j in ipairs(ask[9]) do excluded[j] = true end
  local lost, waits, caps, holds = {}, {}, {}, {}
  local tier, feasible, known, known_sum = nil, 0, 0, 0
  local panic, panic_wait, last_m, m_wait
  local kind, probed, probed_tier, overdue = ask[16], nil, nil, 0
  for j, c in ipairs(candidates) do
    local d, m, p = c.d, c.m, c.p
    local its_tier = byte(tiers, j) or c.tier
    local word, wait, failing, due = 0, 0, false, false
    local blocked = c.throttled > 0 and c.throttled or d.h and unpaid(d, now, debit) or 0
    if excluded[j] then word = 8
    elseif its_tier == UNSUITABLE then word = 'd'
    elseif d.l[5] == 1 then word = 1
    elseif blocked > 0 then word, wait = 9, blocked
    elseif is_full(d) then word = 3
    else
      -- When it frees is when the last of its three scopes does.
      local r
      wait, r = wait_for(d, theirs)
      if wait > 0 then word = d.l[r] == REQUESTS and 4 or 5 end
      if m ~= last_m then last_m, m_wait = m, wait_for(m, theirs) end
      if word == 0 and (m_wait > 0 or is_full(m)) then word = 6 end
      if m_wait > wait then wait = m_wait end
      if p then
        local p_wait = wait_for(p, theirs)
        if word == 0 and (p_wait > 0 or is_full(p)) then word = 'b' end
        if p_wait > wait then wait = p_wait end
      end
      local room, poor = strict_room, 7
      if word == 0 and c.budgets then
        local own = own_room(c)
        if own == false then word = 'a'
        elseif own and (not room or own < room) then room, poor = own, 'a' end
      end
      if word == 0 then
        local want = cap > 0 and cap or c.most
        if want > c.most then want = c.most end
        if n == 0 then want = 0 end
        local enforce = 0
        local input_cost = priced(bound, c.input) + c.request + (fees[j] or 0)
        if room then
          enforce = want
          if c.output > 0 and want > 0 then
            local most = floor((room - input_cost) * 1000 / (c.output * n))
            if most < want then enforce = most end
          end
          local least = want < LEAST_CAP and want or LEAST_CAP
          if enforce < least then word = poor end
        end
        caps[j] = enforce
        holds[j] = input_cost + priced(enforce * n, c.output)
        if room and holds[j] > room then word = poor end
      end
      local q = word == 0 and queue_of(d, now)
      if q and ahead(q, ticket_of(plan, ask)) >= places(c) then word = 'c' end
      if word == 0 then
        wait = 0
        if d.h or d.told then word, wait = standing(d, kind, now) end
        due = word == 'p'
        failing = word ~= 0 and not due
        if due then word, overdue, wait = 'e', math.max(overdue, wait), 0 end
      end
    end
    if due and (not probed or its_tier < probed_tier) then probed, probed_tier = j, its_tier end
    lost[j], waits[j] = word, wait
    if failing and (not panic or wait < panic_wait) then panic, panic_wait = j, wait end
    if word == 0 then
      if not tier or its_tier < tier then
        tier, feasible, known, known_sum = its_tier, 0, 0, 0
      end
      if its_tier == tier then
        feasible = feasible + 1
        local lat = latency(d, now)
        if lat > 0 then known, known_sum = known + 1, known_sum + lat end
      end
    end
  end

  local chosen, why
  -- To try a deployment out is for those whom a failure costs least, where somebody else could serve.
  local spared = (ask[12] == 1 or ask[8] ~= 1) and overdue < OVERDUE_US
  if probed and tier and (probed_tier > tier or spared) then probed = nil end
  if probed then
    chosen, why = probed, 5
    lost[probed] = 0
  elseif tier then
    local unknown_latency = known > 0 and known_sum / known or 1
    local best
    local favoured, flying, weight = candidates[ask[17]], 0, 0
    local count = #candidates
    local start = ask[10] % count
    for k = 1, count do
      local j = (start + k - 1) % count + 1
      local c = candidates[j]
      if lost[j] == 0 and (byte(tiers, j) or c.tier) == tier then
        local lat = latency(c.d, now)
        local cost = expected_wait(c.d, lat > 0 and lat or unknown_latency, kind, now)
        if not best or cost < best then best, chosen = cost, j end
        if favoured then flying, weight = flying + c.d.s[2], weight + c.d.l[4] end
      end
    end
    why = count == 1 and 1 or feasible == 1 and 2 or 3
    local j = ask[17]
    if favoured and j ~= chosen and lost[j] == 0 and (byte(tiers, j) or favoured.tier) == tier then
      local d, other = favoured.d, candidates[chosen].d
      local lat, other_lat = latency(d, now), latency(other, now)
      if lat == 0 then lat = unknown_latency end
      if other_lat == 0 then other_lat = unknown_latency end
      if is_near(d, other, lat, other_lat, kind, now, flying, weight) then chosen, why = j, 6 end
    end
  elseif panic and ask[8] == 1 then
    -- For a second try there is no such last resort: an outage would be answered with more load.
    chosen, why = panic, 4
    lost[panic] = 0
  else
    -- Nobody. Say when somebody frees, and whether it is the budget that stands in the way.
    local soonest, poor, others = nil, false, false
    for j, word in ipairs(lost) do
      if word == 7 then poor = true elseif word ~= 8 and word ~= 1 and word ~= 'd' then others = true end
      if waits[j] > 0 and (not soonest or waits[j] < soonest) then soonest = waits[j] end
    end
    if poor and not others then return unaffordable(scopes, strict_scope, strict_budget) end
    local queued = 0
    if ask[13] == 1 then
      for j, word in ipairs(lost) do
        if SATURATED[word] and join(candidates[j].d, now, ticket_of(plan, ask)) then queued = 1 end
      end
    else
      leave_all(candidates, 0, ask[2])
    end
    return { 3, soonest or 0, table.concat(lost), now, tightest(scopes), queued }
  end

  -- Take it.
  local c = candidates[chosen]
  local want = cap > 0 and cap or assumed
  if want > c.most then want = c.most end
  local fee = fees[chosen] or 0
  local estimate = priced(input, c.input_estimate) + priced(want * n, c.output) + c.request + fee
  local held = {}
  for i, st in ipairs(scopes) do
    take(st, wanted)
    if #st.l > st.l[6] then hold(st, i, holds[chosen], estimate, held) end
  end
  if queue_of(c.d, now) then serve(c.d, ticket_of(plan, ask), debit / plan[6]) end
  leave_all(candidates, chosen, ask[2])
  if why == 5 then claim(c.d, ask[2], kind, now) end
  if c.d.h then pay(c.d, now, debit) end
  take(c.d, theirs)
  take(c.m, theirs)
  if c.p then take(c.p, theirs) end
  if c.budgets then
    hold(c.d, -1, holds[chosen], estimate, held)
    hold(c.m, -2, holds[chosen], estimate, held)
    if c.p then hold(c.p, -3, holds[chosen], estimate, held) end
  end
  return { 1, chosen, caps[chosen], now, tightest(scopes), why, table.concat(lost), latency(c.d, now) },
    { chosen, now, debit, held, input, caps[chosen], ask[11], fee }
end

for i = 6 + plan_count, #ARGV do
  local ask = cmsgpack.unpack(ARGV[i])
  local plan = plans[ask[1]]
  local stored = again and redis.call('HGET', KEYS[2], ask[2])
  local answer, lease
  if stored then
    local _, head = unpack_one(stored)
    answer = { 1, head[1], head[6], head[2], { 0, 0, 0, 0, 0, 0 }, 3, '', 0 }
  else
    answer, lease = decide(plan, ask)
  end
  if lease then
    leases[#leases + 1] = ask[2]
    leases[#leases + 1] = pack(lease) .. ARGV[5 + ask[1]]
  end
  answers[#answers + 1] = pack(answer)
end

if #leases > 0 or stepped_back then write_scopes(memo) end
if #leases > 0 then redis.call('HSET', KEYS[2], unpack(leases)) end
write_queues(memo)
write_health(memo, now)
return answers
