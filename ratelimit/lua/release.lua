-- How a lease is given back: shared by settle and reap.
--
-- A lease is two packed values one after another:
--   {candidate, admitted at, debit of tokens, held, input estimate, cap, user}
--   the plan, as admit got it
-- held is a flat list of {scope number, kind, period id, amount}: what each budget holds for it.

-- Takes the memo, now and its periods, the lease's head and plan, the tokens really used, the
-- cost, and whether the lease still holds something. Moves every scope of it to the truth; returns
-- the deployment's scope. A head without held (the store lost the lease) is charged to the budgets
-- as they stand.
local function give_back(memo, now, periods, head, plan, tokens, cost, live)
  local debit = head[3]
  local function settle_rate(st)
    local s, l = st.s, st.l
    if l[3] > 0 then
      local taken = debit > l[3] and l[3] or debit
      s[2] = bounded(s[2] + (tokens - taken) * MINUTE / l[3], now)
    end
    if live and s[3] > 0 then s[3] = s[3] - 1 end
    st.dirty = true
  end
  local keys, held = plan[1], head[4]
  for _, key in ipairs(keys) do
    local st = scope(memo, key, now, periods)
    if st then
      settle_rate(st)
      if not held then
        for _, b in ipairs(st.l[5]) do
          local at = 3 * b[1] + 2
          st.s[at] = st.s[at] + cost
        end
      end
    end
  end
  if held then
    for k = 1, #held, 4 do
      local st = scope(memo, keys[held[k]], now, periods)
      local at = 3 * held[k + 1] + 1
      if st and st.s[at] == held[k + 2] then
        st.s[at + 1] = st.s[at + 1] + cost
        if live then
          local left_over = st.s[at + 2] - held[k + 3]
          st.s[at + 2] = left_over > 0 and left_over or 0
        end
      end
    end
  end
  local c = plan[2][head[1]]
  local d, m = scope(memo, c[1], now, periods), scope(memo, c[2], now, periods)
  if d then settle_rate(d) end
  if m then settle_rate(m) end
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
