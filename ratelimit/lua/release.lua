-- How a lease is given back: shared by settle and reap.
--
-- A lease is two packed values one after another:
--   {candidate, admitted at, debit of tokens, held, input estimate, cap, user, fee}
--   the plan, as admit got it
-- held is a flat list of {scope number, kind, period id, amount}: what each budget holds for it. The
-- numbers are those of the caller's scopes; -1, -2 and -3 are the deployment, its model, its provider.
-- fee is what the call may cost beside its tokens, which is owed when its replica dies before it has told how far it was.
--
-- What stays reserved of strict budgets when a replica fell silent (see lives.lua) stands in the
-- tombstone, a flat list {scope's key, key of the limits it shares or '', kind, period id, amount}.

-- What the attempt in hand used, and what it had taken: {requests, tokens, input tokens, output tokens}.
local used, taken = { 0, 0, 0, 0 }, { 0, 0, 0, 0 }

-- Takes a scope, a cost, now and a list for events. Charges every budget that stands there now.
local function charge(st, cost, now, events)
  local l, kind = st.l, 0
  for b = l[6] + 1, #l, 7 do
    if l[b] ~= kind then
      kind = l[b]
      local m = money_of(st, kind)
      st.s[m + 2] = st.s[m + 2] + cost
      tell(st, m, now, events)
    end
  end
end

-- Takes a scope and a kind of period. Returns whether a strict budget stands there.
local function has_strict(st, kind)
  local l = st.l
  for b = l[6] + 1, #l, 7 do
    if l[b] == kind then return l[b + 2] == 1 end
  end
  return false
end

-- Takes the memo, now and a tombstone. Frees what stays reserved for it.
local function let_go(memo, now, grave)
  local stays = grave[9] or {}
  for k = 1, #stays, 5 do
    local st = scope(memo, stays[k], now, stays[k + 1] ~= '' and stays[k + 1] or nil)
    local m = st and money_of(st, stays[k + 2])
    if m and st.s[m + 1] == stays[k + 3] then
      st.s[m + 3] = math.max(st.s[m + 3] - stays[k + 4], 0)
      st.dirty = true
    end
  end
  grave[9] = nil
end

-- Takes the memo, now, the lease's head and plan, the tokens really used (input, output), the cost,
-- whether the lease still holds something, a list for events, and perhaps one for what stays reserved.
-- Moves every scope of it to the truth; returns the deployment's scope. A head without held (the store
-- lost the lease) is charged to the budgets as they stand.
local function give_back(memo, now, head, plan, input, output, cost, live, events, stays)
  local held = head[4]
  used[2], used[3], used[4] = input + output, input, output
  taken[2], taken[3] = head[3], head[5] or 0
  taken[4] = taken[2] - taken[3]

  local function settle_scope(st)
    if not st then return st end
    local l, s, at = st.l, st.s, st.at
    for r = 7, l[6], 6 do
      at = at + 1
      local what = l[r]
      if what ~= REQUESTS and used[what] ~= taken[what] then
        local had, code = taken[what], l[r + 5]
        if had > l[r + 4] then had = l[r + 4] end
        -- What taking the truth would have moved it, for what was taken: as `moved` says.
        local x, y = used[what] * WINDOW[code] / l[r + 3], had * WINDOW[code] / l[r + 3]
        local tat = s[at] + (x + -x % 1 - y - -y % 1) / 16
        local most = now + l[r + 2] + DEBT[code]
        s[at] = tat < now and now or tat > most and most or tat
      end
    end
    if live and s[2] > 0 then s[2] = s[2] - 1 end
    st.dirty = true
    if not held then charge(st, cost, now, events) end
    return st
  end

  local keys, users, user = plan[1], plan[4], head[7]
  for i = 1, #keys do settle_scope(scope(memo, keys[i], now)) end
  if users and user and user ~= '' then
    for k = 1, #users, 2 do settle_scope(scope(memo, users[k] .. user, now, users[k + 1])) end
  end
  local c = plan[2][head[1]]
  local d = settle_scope(scope(memo, c[1], now, nil, true))
  settle_scope(scope(memo, c[2], now))
  if c[10] and c[10] ~= '' then settle_scope(scope(memo, c[10], now)) end

  for k = 1, held and #held or 0, 4 do
    local number, st, common = held[k], nil, nil
    if number < 0 then
      st = scope(memo, c[number == -3 and 10 or -number], now)
    elseif number <= #keys then
      st = scope(memo, keys[number], now)
    else
      local at = 2 * (number - #keys) - 1
      common = users[at + 1]
      st = scope(memo, users[at] .. user, now, common)
    end
    local m = st and money_of(st, held[k + 1])
    if m and st.s[m + 1] == held[k + 2] then
      local s = st.s
      s[m + 2] = s[m + 2] + cost
      if live then
        local freed = held[k + 3]
        if stays and freed > cost and has_strict(st, held[k + 1]) then
          local n = #stays
          stays[n + 1], stays[n + 2], stays[n + 3] = st.key, common or '', held[k + 1]
          stays[n + 4], stays[n + 5] = held[k + 2], freed - cost
          freed = cost
        end
        local left_over = s[m + 3] - freed
        s[m + 3] = left_over > 0 and left_over or 0
      end
      if s[m + 2] >= (st[m] or 0) then tell(st, m, now, events) end
    end
  end
  return d
end

-- Takes a plan, an attempt's id, its candidate's number, when it was admitted, its user, and now.
-- Returns the entry that the plan carries for those who cannot ask the replica, completed but for
-- tokens and cost. The places are the ledger's.
local function entry_for(plan, id, candidate, at, user, now)
  local c = plan[2][candidate]
  local request, attempt = string.match(id, '^(.*)%.(%d+)$')
  local e = cmsgpack.unpack(plan[3])
  e[1], e[2], e[3], e[4] = id, request or id, tonumber(attempt) or 1, at + EPOCH * 1000000
  e[8] = user
  e[12], e[13], e[14] = string.match(c[2], ':s:model:(.*)$'), string.match(c[1], ':d:(.*)$'), c[8]
  e[25] = math.max(now - at, 0)
  return e
end

-- Takes the books' keys, the packed entries of this call, and their sums. Appends and adds.
local function book(ledger, totals, entries, input, output, cost)
  if #entries == 0 then return end
  for _, entry in ipairs(entries) do redis.call('XADD', ledger, '*', 'e', entry) end
  redis.call('HINCRBY', totals, 'entries', #entries)
  redis.call('HINCRBY', totals, 'input_tokens', string.format('%.0f', input))
  redis.call('HINCRBY', totals, 'output_tokens', string.format('%.0f', output))
  redis.call('HINCRBY', totals, 'cost_nusd', string.format('%.0f', cost))
end

-- Takes the ledger's key and packed events. Appends them to the stream of events beside it, which
-- forgets the oldest of many.
local function announce(ledger, events)
  local stream = string.match(ledger, '^(.*:)') .. 'ev'
  for _, event in ipairs(events) do
    redis.call('XADD', stream, 'MAXLEN', '~', 10000, '*', 'e', event)
  end
end
