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
-- KEYS[4+] scopes  hashes of every scope and deployment that the plans name (see scope.lua)
-- ARGV[1]  now     us since 2024-01-01; empty asks the server (tests pass a value)
-- ARGV[2]  member  this replica.boot, as it stands in beats
-- ARGV[3]  number  of this sending, rising with each
-- ARGV[4]  again   1 when the batch may have run before: answers of existing leases are repeated
-- ARGV[5]  count   number of plans that follow
-- ARGV[6+] plans   then asks, each packed
--   plan {scope keys,
--         {{deployment key, model key, tier, input, output, input_estimate, most, provider,
--           request}, ...},
--         entry}
--        input, output: dearest nano-USD per thousand tokens; input_estimate: the usual rate;
--        request: nano-USD per attempt; most: output tokens that the model can give at most;
--        provider, entry: for the reaper, opaque here
--   ask  {plan number, attempt id, input estimate, input bound, cap, assumed, n, first, excluded,
--         tie, user}
--        cap: output tokens the caller allows per choice, 0 when not said; assumed: what to expect
--        then; n: choices, 0 when there is no output; first: 1 unless a retry (which asks no second request of the caller);
--        excluded: candidate numbers; tie: any integer; user: for the reaper
--
-- Returns a list with one packed answer per ask, the word FENCED when this replica's life
-- has ended in the eyes of the store, or the word LATE when nobody waits for this sending any more.
--   {1, candidate, cap to enforce or 0, now, limits, why, lost}                    granted
--   {0, what, scope number, limit, retry_us, now, limits, kind of budget}           denied
--        what: 1 requests, 2 tokens, 3 concurrency, 4 budget, 5 larger than the limit itself
--   {2, keys ...}                                                                   unknown scopes
--   {3, retry_us, lost, now, limits}                                                nobody to serve it
--   limits {limit, remaining, reset_us of requests, limit, remaining, reset_us of tokens}
--   lost   one digit per candidate: 0 chosen or feasible, 1 drained, 2 cooling, 3 concurrency,
--          4 requests, 5 tokens, 6 its model's limits, 7 budget, 8 excluded, 9 throttled
--   why    1 the only candidate, 2 declared order, 3 load, 4 all were failing: the least bad

--- @include gcra
--- @include scope
--- @include governance:budget
--- @include routing:choose

local now = clock(ARGV[1])
local alive = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not alive or tonumber(alive) < 0 then return 'FENCED' end
local again = ARGV[4] == '1'
if tonumber(ARGV[3]) < tonumber(redis.call('GET', KEYS[3]) or 0) then return 'LATE' end
if again then redis.call('SET', KEYS[3], ARGV[3], 'EX', REMEMBER) end

local unpack_one, pack, floor, ceil = cmsgpack.unpack_one, cmsgpack.pack, math.floor, math.ceil
local periods = period_ids(now)
local memo, plans, answers, leases = {}, {}, {}, {}
local plan_count = tonumber(ARGV[5])
local LEAST_CAP = 256

for i = 1, plan_count do
  local plan = cmsgpack.unpack(ARGV[5 + i])
  local unknown = {}
  plan.scopes, plan.candidates = {}, {}
  for j, key in ipairs(plan[1]) do
    local found = scope(memo, key, now, periods)
    if found then plan.scopes[j] = found else unknown[#unknown + 1] = key end
  end
  for j, c in ipairs(plan[2]) do
    local d, m = scope(memo, c[1], now, periods), scope(memo, c[2], now, periods)
    if not d then unknown[#unknown + 1] = c[1] end
    if not m then unknown[#unknown + 1] = c[2] end
    plan.candidates[j] = { d = d, m = m, tier = c[3], input = c[4], output = c[5],
      input_estimate = c[6], most = c[7], request = c[9] }
  end
  if #unknown > 0 then plan.unknown = unknown end
  plans[i] = plan
end

-- Takes a scope. Returns how long until one more request fits, 0 when it does.
local function wait_requests(st)
  local rpm = st.l[2]
  if rpm == 0 then return 0 end
  local over = st.s[1] + MINUTE / rpm - now - MINUTE
  if over > 0.5 then return ceil(over) end
  return 0
end

-- Takes a scope and a debit of tokens. Returns how long until it fits, 0 when it does; a debit that
-- is larger than the limit waits for a full bucket.
local function wait_tokens(st, debit)
  local tpm = st.l[3]
  if tpm == 0 then return 0 end
  if debit > tpm then debit = tpm end
  local over = st.s[2] + debit * MINUTE / tpm - now - MINUTE
  if over > 0.5 then return ceil(over) end
  return 0
end

-- Takes a scope, whether the attempt counts as a request there, and a debit of tokens.
local function take(st, first, debit)
  local s, l = st.s, st.l
  if first and l[2] > 0 then s[1] = s[1] + MINUTE / l[2] end
  if l[3] > 0 then s[2] = s[2] + (debit > l[3] and l[3] or debit) * MINUTE / l[3] end
  s[3] = s[3] + 1
  st.dirty = true
end

-- Takes the caller's scopes. Returns the tightest limit of requests and of tokens, for headers.
local function tightest(scopes)
  local rl, rr, rs, tl, tr, ts = 0, 0, 0, 0, 0, 0
  local r_share, t_share = 2, 2
  for _, st in ipairs(scopes) do
    local l, s = st.l, st.s
    if l[2] > 0 then
      local n = left(s[1], now, l[2])
      if n / l[2] < r_share then
        r_share, rl, rr, rs = n / l[2], l[2], n, floor(s[1] - now)
      end
    end
    if l[3] > 0 then
      local n = left(s[2], now, l[3])
      if n / l[3] < t_share then
        t_share, tl, tr, ts = n / l[3], l[3], n, floor(s[2] - now)
      end
    end
  end
  return { rl, rr, rs, tl, tr, ts }
end

-- Takes a plan and an ask. Returns the answer, and the lease when it is granted.
local function decide(plan, ask)
  if plan.unknown then return { 2, unpack(plan.unknown) } end
  local scopes, candidates = plan.scopes, plan.candidates
  local input, bound, cap, assumed, n = ask[3], ask[4], ask[5], ask[6], ask[7]
  local first = ask[8] == 1
  local debit = input + (cap > 0 and cap or assumed) * n

  -- The caller's own limits. The one that frees last is the one that binds.
  local worst, what, which, limit = -1, 0, 0, 0
  local strict_room
  for i, st in ipairs(scopes) do
    local l, s = st.l, st.s
    if first then
      local w = wait_requests(st)
      if w > 0 and w > worst then worst, what, which, limit = w, 1, i, l[2] end
    end
    if l[3] > 0 then
      if input > l[3] then return { 0, 5, i, l[3], 0, now, tightest(scopes) } end
      local w = wait_tokens(st, debit)
      if w > 0 and w > worst then worst, what, which, limit = w, 2, i, l[3] end
    end
    if l[4] > 0 and s[3] >= l[4] and worst < 0 then worst, what, which, limit = 0, 3, i, l[4] end
    for _, b in ipairs(l[5]) do
      local at = 3 * b[1] + 1
      local room = b[2] - s[at + 1] - s[at + 2]
      if b[3] == 1 then
        if not strict_room or room < strict_room then strict_room = room end
        if room <= 0 then return { 0, 4, i, b[2], 0, now, tightest(scopes), b[1] } end
      elseif room <= 0 then
        return { 0, 4, i, b[2], 0, now, tightest(scopes), b[1] }
      end
    end
  end
  if worst >= 0 then return { 0, what, which, limit, worst, now, tightest(scopes) } end

  -- The candidates: who could serve it, and the best of the lowest tier that has one.
  local excluded = {}
  for _, j in ipairs(ask[9]) do excluded[j] = true end
  local lost, waits, caps, holds = {}, {}, {}, {}
  local tier, feasible, known, known_sum = nil, 0, 0, 0
  local panic, panic_wait
  for j, c in ipairs(candidates) do
    local d, m = c.d, c.m
    local word, wait, failing = 0, 0, false
    if excluded[j] then word = 8
    elseif d.l[7] == 1 then word = 1
    elseif throttled(d, now) > 0 then word, wait = 9, throttled(d, now)
    else
      if d.l[4] > 0 and d.s[3] >= d.l[4] then word = 3
      else
        wait = wait_requests(d)
        if wait > 0 then word = 4
        else
          wait = wait_tokens(d, debit)
          if wait > 0 then word = 5 end
        end
      end
      if word == 0 then
        wait = wait_requests(m)
        if wait == 0 then wait = wait_tokens(m, debit) end
        if wait > 0 or (m.l[4] > 0 and m.s[3] >= m.l[4]) then word = 6 end
      end
      if word == 0 then
        local want = cap > 0 and cap or c.most
        if want > c.most then want = c.most end
        if n == 0 then want = 0 end
        local enforce = 0
        local input_cost = priced(bound, c.input) + c.request
        if strict_room then
          enforce = want
          if c.output > 0 and want > 0 then
            local most = floor((strict_room - input_cost) * 1000 / (c.output * n))
            if most < want then enforce = most end
          end
          local least = want < LEAST_CAP and want or LEAST_CAP
          if enforce < least then word = 7 end
        end
        caps[j] = enforce
        holds[j] = input_cost + priced(enforce * n, c.output)
        if strict_room and holds[j] > strict_room then word = 7 end
      end
      if word == 0 then
        wait = cooling(d, now)
        if wait > 0 then word, failing = 2, true end
      end
    end
    lost[j], waits[j] = word, wait
    if failing and (not panic or wait < panic_wait) then panic, panic_wait = j, wait end
    if word == 0 then
      if not tier or c.tier < tier then
        tier, feasible, known, known_sum = c.tier, 0, 0, 0
      end
      if c.tier == tier then
        feasible = feasible + 1
        local lat = latency(d, now)
        if lat > 0 then known, known_sum = known + 1, known_sum + lat end
      end
    end
  end

  local chosen, why
  if tier then
    local unknown_latency = known > 0 and known_sum / known or 1
    local best
    local count = #candidates
    local start = ask[10] % count
    for k = 1, count do
      local j = (start + k - 1) % count + 1
      local c = candidates[j]
      if lost[j] == 0 and c.tier == tier then
        local lat = latency(c.d, now)
        local cost = expected_wait(c.d, lat > 0 and lat or unknown_latency)
        if not best or cost < best then best, chosen = cost, j end
      end
    end
    why = count == 1 and 1 or feasible == 1 and 2 or 3
  elseif panic then
    chosen, why = panic, 4
    lost[panic] = 0
  else
    -- Nobody. Say when somebody frees, and whether it is the budget that stands in the way.
    local soonest, poor, others = nil, false, false
    for j, word in ipairs(lost) do
      if word == 7 then poor = true elseif word ~= 8 and word ~= 1 then others = true end
      if waits[j] > 0 and (not soonest or waits[j] < soonest) then soonest = waits[j] end
    end
    if poor and not others then
      for i, st in ipairs(scopes) do
        for _, b in ipairs(st.l[5]) do
          local at = 3 * b[1] + 1
          if b[3] == 1 and b[2] - st.s[at + 1] - st.s[at + 2] <= strict_room then
            return { 0, 4, i, b[2], 0, now, tightest(scopes), b[1] }
          end
        end
      end
    end
    return { 3, soonest or 0, table.concat(lost), now, tightest(scopes) }
  end

  -- Take it.
  local c = candidates[chosen]
  local want = cap > 0 and cap or assumed
  if want > c.most then want = c.most end
  local estimate = priced(input, c.input_estimate) + priced(want * n, c.output) + c.request
  local held = {}
  for i, st in ipairs(scopes) do
    take(st, first, debit)
    for _, b in ipairs(st.l[5]) do
      local at, k = 3 * b[1] + 1, #held
      local amount = b[3] == 1 and holds[chosen] or estimate
      st.s[at + 2] = st.s[at + 2] + amount
      held[k + 1], held[k + 2], held[k + 3], held[k + 4] = i, b[1], st.s[at], amount
    end
  end
  take(c.d, true, debit)
  take(c.m, true, debit)
  return { 1, chosen, caps[chosen], now, tightest(scopes), why, table.concat(lost) },
    { chosen, now, debit, held, input, caps[chosen], ask[11] }
end

for i = 6 + plan_count, #ARGV do
  local ask = cmsgpack.unpack(ARGV[i])
  local plan = plans[ask[1]]
  local stored = again and redis.call('HGET', KEYS[2], ask[2])
  local answer, lease
  if stored then
    local _, head = unpack_one(stored)
    answer = { 1, head[1], head[6], head[2], { 0, 0, 0, 0, 0, 0 }, 3, '' }
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
return answers
