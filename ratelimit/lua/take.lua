-- How what an attempt holds is taken: shared by admit and assert.

-- Takes a scope and {requests, tokens, input, output} that are wanted. Takes it.
local function take(st, wanted)
  local l, s, at = st.l, st.s, st.at
  for r = 7, l[6], 6 do
    at = at + 1
    local amount = wanted[l[r]]
    if l[r] == REQUESTS then
      s[at] = s[at] + amount * l[r + 1]
    elseif amount > 0 then
      if amount > l[r + 4] then amount = l[r + 4] end
      local sixteenths = amount * WINDOW[l[r + 5]] / l[r + 3]
      s[at] = s[at] + (sixteenths + -sixteenths % 1) / 16
    end
  end
  s[2] = s[2] + 1
  st.dirty = true
end

-- Takes a scope, its number in the lease, what a strict and what a soft budget holds, and the list of
-- what is held. Holds it, once for each period.
local function hold(st, number, most, expected, held)
  local l, s = st.l, st.s
  local m, kind = st.money - 6, 0
  for b = l[6] + 1, #l, 7 do
    if l[b] ~= kind then
      m, kind = m + 6, l[b]
      local amount, k = l[b + 2] == 1 and most or expected, #held
      s[m + 3] = s[m + 3] + amount
      held[k + 1], held[k + 2], held[k + 3], held[k + 4] = number, kind, s[m + 1], amount
    end
  end
end
