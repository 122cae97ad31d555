-- What a scope is in memory while a batch runs: read once, written once.
--
-- A scope is a hash of two packed fields, so that a read is one HMGET and a write one HSET. Both are
-- flat and hold only what is there:
--   l2  limits {version, shape, concurrency, weight, drained, R, rates ..., budgets ...}
--         rates, up to place R, in the order of their codes:
--           what, scale, depth, limit, burst, code
--         budgets, in the order of their kinds, strict before soft:
--           kind, amount_nusd, strict, raised_nusd, raised until, zone, alerts
--   s2  state {shape, in flight, health if weight is not 0, tats ..., money ...}
--         health: ewma of the first byte in us, when it was taken, failures in a row, until when it was
--           last left alone for them (both for people; see breaker.lua), throttled until (the vendor's word)
--         tats: one for each rate
--         money, for each kind: kind, period id, spent, held, percent told, highest level told
-- what, code: see gcra.lua. scale: how far one unit moves the tat, exact for requests, less than
-- a sixteenth off for tokens. burst: what the bucket holds; depth: how far ahead of now its tat may be.
-- weight: of a deployment, 0 for all other scopes. concurrency: 0 is no limit. kind: 1 day, 2 week,
-- 3 month, 4 quarter, 5 total. Money is nano-USD. zone, alerts: see budget.lua; a text of percents.
-- shape: which rates and which kinds, 2^(code - 1) and 2^(9 + kind) added up: a state of another
-- shape than its limits was written under others, and is laid out anew.
-- What happens is kept apart from what was configured: a lease writes down what it holds where, so
-- that limits and budgets may change while it lives.
-- The 2 in the fields' names is this layout's: what has another one is not known.

-- For how many days a state without limits of its own is kept after it was last used: until every
-- period that it counts is over.
local KEEP_DAYS = { 2, 9, 33, 95, 36525 }

-- Whether a state was found that the clock has stepped back from: it is repaired in any case.
local stepped_back = false

-- Limits that scopes without limits of their own share, by their key.
local shared = {}

-- Takes limits. Returns a state in which nothing has happened.
local function fresh(l)
  local s = { l[2], 0 }
  if l[4] > 0 then s = { l[2], 0, 0, 0, 0, 0, 0 } end
  local n = #s
  for _ = 7, l[6], 6 do
    n = n + 1
    s[n] = 0
  end
  local kind = 0
  for b = l[6] + 1, #l, 7 do
    if l[b] ~= kind then
      kind = l[b]
      s[n + 1], s[n + 2], s[n + 3], s[n + 4], s[n + 5], s[n + 6] = kind, 0, 0, 0, 0, 0
      n = n + 6
    end
  end
  return s
end

-- Takes a state and limits of another shape. Returns the state as these want it. Money of a kind that
-- has no budget now stays behind the rest, for leases that hold it and should the budget come back.
local function relaid(old, l)
  local s = fresh(l)
  local at = l[4] > 0 and 7 or 2
  for i = 2, at do s[i] = old[i] end
  local tats, from = {}, at
  for code = 1, #WINDOW do
    if math.floor(old[1] / 2 ^ (code - 1)) % 2 == 1 then
      from = from + 1
      tats[code] = old[from]
    end
  end
  for r = 7, l[6], 6 do
    at = at + 1
    s[at] = tats[l[r + 5]] or 0
  end
  local money = {}
  for m = from + 1, #old, 6 do money[old[m]] = m end
  for m = at + 1, #s, 6 do
    local known = money[s[m]]
    if known then
      for i = 1, 5 do s[m + i] = old[known + i] end
      money[s[m]] = nil
    end
  end
  for kind = 1, 5 do
    if money[kind] then
      for i = 0, 5 do s[#s + 1] = old[money[kind] + i] end
    end
  end
  return s
end

-- Takes a key. Returns the limits there, for scopes that have none of their own; nil when unknown.
local function shared_limits(key)
  if shared[key] == nil then
    local raw = redis.call('HGET', key, 'l2')
    shared[key] = raw and cmsgpack.unpack(raw) or false
  end
  return shared[key] or nil
end

-- Takes the batch's memo, a key, now, and perhaps the key of the limits that hold where the scope has
-- none of its own (or older ones: they were taken away since), and whether it is a deployment, where others
-- may wait (see queue.lua), and which may fail (see breaker.lua). Returns the scope, or false when the server does not know its limits.
local function scope(memo, key, now, default, waited_for)
  local found = memo[key]
  if found ~= nil then return found end
  local raw
  if waited_for then
    raw = redis.call('HMGET', key, 'l2', 's2', 'w', 'h')
  else
    raw = redis.call('HMGET', key, 'l2', 's2')
  end
  local l = raw[1] and cmsgpack.unpack(raw[1])
  local passing = false
  if default then
    local common = shared_limits(default)
    if not common then
      memo[key] = false
      return false
    end
    if not l or l[1] < common[1] then l, passing = common, true end
  elseif not l then
    memo[key] = false
    return false
  end
  local s
  if not raw[2] then
    s = fresh(l)
  else
    s = cmsgpack.unpack(raw[2])
    if s[1] ~= l[2] then s = relaid(s, l) end
  end
  local first = l[4] > 0 and 7 or 2
  local at, dirty = first, false
  for r = 7, l[6], 6 do
    at = at + 1
    if s[at] < now then
      s[at] = now
    elseif s[at] > now + l[r + 2] + DEBT[l[r + 5]] + MINUTE then
      -- An empty bucket: nothing extra is granted, and once it is full all is well.
      s[at], dirty, stepped_back = now + l[r + 2], true, true
    end
  end
  -- A period that has ended takes its holds with it: a lease settles against the period in
  -- which it was admitted. A clock that stepped back over the end of a period does not begin the
  -- old one anew; one that was ahead by more has what was spent count where it really is.
  local m, kind = at - 5, 0
  for b = l[6] + 1, #l, 7 do
    if l[b] ~= kind then
      m, kind = m + 6, l[b]
      local period = period_ids(l[b + 5], now)[kind]
      if s[m + 1] < period then
        s[m + 1], s[m + 2], s[m + 3], s[m + 4], s[m + 5] = period, 0, 0, 0, 0
      elseif s[m + 1] > period + 1 then
        s[m + 1], s[m + 3] = period, 0
      end
    end
  end
  -- at: the place before the tats; money: of the first money.
  found = { l = l, s = s, key = key, at = first, money = at + 1, dirty = dirty, w = raw[3], h = raw[4] }
  if passing then found.passing = true end
  memo[key] = found
  return found
end

-- Takes a scope and a kind of period. Returns the place of its money, nil when there is none.
local function money_of(st, kind)
  local s = st.s
  for m = st.money, #s, 6 do
    if s[m] == kind then return m end
  end
end

-- Takes the memo. Writes what was changed.
local function write_scopes(memo)
  for key, found in pairs(memo) do
    if found and found.dirty then
      redis.call('HSET', key, 's2', cmsgpack.pack(found.s))
      if found.passing then
        local l, days = found.l, 2
        for b = l[6] + 1, #l, 7 do days = math.max(days, KEEP_DAYS[l[b]]) end
        redis.call('EXPIRE', key, days * 86400)
      end
    end
  end
end
