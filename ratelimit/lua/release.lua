-- How a lease is given back: shared by settle and reap.
--
-- A lease is two packed values one after another:
--   {candidate, admitted at, debit of tokens, hold, estimate, input estimate, cap, user}
--   the plan, as admit got it

-- Takes the memo, now and its periods, the lease's head and plan, the tokens really used, the
-- cost, and whether the lease still holds something. Moves every scope of it to the truth; returns
-- the deployment's scope.
local function give_back(memo, now, periods, head, plan, tokens, cost, held)
  local c = plan[2][head[1]]
  local then_ids = held and period_ids(head[2]) or periods
  local debit = head[3]
  local function settle_rate(st)
    local s, l = st.s, st.l
    if l[3] > 0 then
      local taken = debit > l[3] and l[3] or debit
      s[2] = s[2] + (tokens - taken) * MINUTE / l[3]
      if s[2] < now then s[2] = now end
    end
    if held and s[3] > 0 then s[3] = s[3] - 1 end
    st.dirty = true
  end
  for _, key in ipairs(plan[1]) do
    local st = scope(memo, key, now, periods)
    if st then
      settle_rate(st)
      for _, b in ipairs(st.l[5]) do
        local at = 3 * b[1] + 1
        if st.s[at] == then_ids[b[1]] then
          st.s[at + 1] = st.s[at + 1] + cost
          if held then
            local back = st.s[at + 2] - (b[3] == 1 and head[4] or head[5])
            st.s[at + 2] = back > 0 and back or 0
          end
        end
      end
    end
  end
  local d, m = scope(memo, c[1], now, periods), scope(memo, c[2], now, periods)
  if d then settle_rate(d) end
  if m then settle_rate(m) end
  return d
end

-- Takes the sums of what was appended in this call. Adds them to the books' totals.
local function add_totals(key, entries, input, output, cost)
  if entries == 0 then return end
  redis.call('HINCRBY', key, 'entries', entries)
  redis.call('HINCRBY', key, 'input_tokens', string.format('%.0f', input))
  redis.call('HINCRBY', key, 'output_tokens', string.format('%.0f', output))
  redis.call('HINCRBY', key, 'cost_nusd', string.format('%.0f', cost))
end
