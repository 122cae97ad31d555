-- What a scope is in memory while a batch runs: read once, written once.
--
-- A scope is a hash of two packed fields, so that a read is one HMGET and a write one HSET:
--   l  limits {version, rpm, tpm, concurrency, {{kind, amount_nusd, strict}, ...}, weight, drained}
--   s  state  {tat of rpm, tat of tpm, in flight,
--              day id, spent, held, week id, spent, held, month id, spent, held,
--              ewma of the first byte in us, when it was taken, failures in a row,
--              cooling until (our judgement), throttled until (the vendor's word)}
-- rpm, tpm, concurrency: 0 is no limit. kind: 1 day, 2 week, 3 month. Money is nano-USD.
-- Budgets stand at 3 * kind + 1; the last five belong to deployments only.
-- What happens is kept apart from what was configured: a lease writes down what it holds where, so
-- that limits and budgets may change while it lives.

local SIZE = 17

-- Whether a state was found that the clock has stepped back from: it is repaired in any case.
local stepped_back = false

-- Takes the batch's memo, a key, now and its period ids. Returns the scope, or false when the
-- server does not know its limits.
local function scope(memo, key, now, periods)
  local found = memo[key]
  if found ~= nil then return found end
  local raw = redis.call('HMGET', key, 'l', 's')
  if not raw[1] then
    memo[key] = false
    return false
  end
  local limits = cmsgpack.unpack(raw[1])
  local state
  if raw[2] then
    state = cmsgpack.unpack(raw[2])
  else
    state = {}
    for i = 1, SIZE do state[i] = 0 end
  end
  -- A period that has ended takes its holds with it: a lease settles against the period in
  -- which it was admitted. A clock that stepped back over the end of a period does not begin the
  -- old one anew; one that was ahead by more has what was spent count where it really is.
  for kind = 1, 3 do
    local at, period = 3 * kind + 1, periods[kind]
    if state[at] < period then
      state[at], state[at + 1], state[at + 2] = period, 0, 0
    elseif state[at] > period + 1 then
      state[at], state[at + 2] = period, 0
    end
  end
  local dirty = false
  for i = 1, 2 do
    if state[i] < now then
      state[i] = now
    elseif state[i] > now + FAR then
      -- An empty bucket: nothing extra is granted, and in a minute all is well.
      state[i], dirty, stepped_back = now + MINUTE, true, true
    end
  end
  found = { l = limits, s = state, key = key, dirty = dirty }
  memo[key] = found
  return found
end

-- Takes the memo. Writes what was changed.
local function write_scopes(memo)
  for key, found in pairs(memo) do
    if found and found.dirty then redis.call('HSET', key, 's', cmsgpack.pack(found.s)) end
  end
end
