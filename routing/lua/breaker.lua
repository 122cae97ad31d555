-- The breaker of a deployment: whether calls of a kind may go there, who tries it out, how it comes back.
--
-- It opens when calls of a kind fail: three in a row, or ten of late, half of them failures at least.
-- While it is open nobody is sent there. When its pause is over it is half-open: exactly one ask of
-- all replicas is sent to try it; the claim is made within the admission that grants it, and freed by
-- the settlement (or the reaping) of that very attempt. Failed again, it is open for twice as long;
-- else it is closed, and its share grows back from a tenth.
-- Streaming broken is not all broken: each kind of call is judged on its own. A failure that says that
-- nobody is there counts for all kinds.
--
-- There is a record only while there is something to tell: a fourth field of the deployment's hash,
--   h  {probe, its kind, good until, requests left, until, tokens left, until, offline until, kinds ...}
--        probe: the attempt that tries it, or ''; left: what its vendor said that may still be sent
--        until then; offline until: what an active probe said
--        kinds, for each of which something is known:
--          kind, fine, failed, counted at, failures in a row, openings, opened at, open until, closed at
-- fine and failed fade with the same time constant as a latency; they are counted from a first failure on.
-- openings: how often it opened without having come back wholly.

-- What a call is: 1 wants a whole answer, 2 wants a stream, 3 brings tools.
local KINDS = 3
local FADE_US = 10000000
local COOL_US = 1000000
local COOL_MOST_US = 30000000
-- Failures in a row, and calls of late, without which it does not open; and the share that must have failed.
local PATIENCE = 3
local SAMPLES = 10
local BROKEN = 0.5
-- A failure weighs like an answer this slow, so that failing fast attracts nobody; a single one among
-- as many calls as this.
local FAILURE_US = 5000000
local PRIOR = 4
-- Whoever tries a deployment out and has not come back after so long streams: another one may try.
local PROBE_US = 60000000
-- Nobody is spared the trial when it has been due for so long: there may be none but such calls.
local OVERDUE_US = 10000000
local RAMP_US = 30000000
local LEAST_SHARE = 0.1
local FORGET_FAILED = 0.1
-- The longest that a vendor is taken at its word.
local THROTTLE_MOST_US = 3600000000

-- Takes a moment, now, and the longest that may lie between them. Returns how long it still is; what
-- lies further ahead was written before the clock stepped back, and counts no more.
local function remaining(moment, now, most)
  local wait = moment - now
  if wait > 0 and wait <= most then return wait end
  return 0
end

-- Takes a deployment's scope. Returns what is known of its health, false when there is nothing to tell.
local function health_of(d)
  if d.health ~= nil then return d.health end
  d.health = false
  if d.h then
    local h = cmsgpack.unpack(d.h)
    local kinds = {}
    for i = 9, #h, 9 do
      kinds[h[i]] = { fine = h[i + 1], failed = h[i + 2], at = h[i + 3], streak = h[i + 4],
        openings = h[i + 5], opened = h[i + 6], open = h[i + 7], closed = h[i + 8] }
    end
    d.health = { probe = h[1], kind = h[2], good = h[3], requests = h[4], requests_until = h[5],
      tokens = h[6], tokens_until = h[7], offline = h[8], kinds = kinds }
  end
  return d.health
end

-- Takes a deployment's scope. Returns its health, to be changed.
local function told_health(d)
  if not health_of(d) then
    d.health = { probe = '', kind = 0, good = 0, requests = 0, requests_until = 0, tokens = 0,
      tokens_until = 0, offline = 0, kinds = {} }
  end
  d.told = true
  return d.health
end

-- Takes what is known of a kind. Returns whether it is open, or half-open.
local function is_open(k)
  return k.openings > 0 and k.closed == 0
end

-- Takes what is known of a kind and now. Lets its counts fade, and ends a return that is complete.
local function fade(k, now)
  local age = now - k.at
  if age > 0 then
    local keep = math.exp(-age / FADE_US)
    k.fine, k.failed = k.fine * keep, k.failed * keep
  end
  k.at = now
  if k.closed > 0 and remaining(k.closed + RAMP_US, now, RAMP_US) == 0 then k.openings, k.closed = 0, 0 end
end

-- Takes what is known of a kind and now. Returns whether it still matters.
local function matters(k, now)
  if is_open(k) or remaining(k.closed + RAMP_US, now, RAMP_US) > 0 then return true end
  local age = now - k.at
  return k.failed * (age > 0 and math.exp(-age / FADE_US) or 1) > FORGET_FAILED
end

-- Takes a deployment's scope, a kind of call and now. Returns 0 when it may be sent there, 2 when it is
-- open, e when it is half-open and somebody tries it, f when an active probe found nobody there, or
-- p when somebody is to try it; and for how long, or for how long somebody was to.
local function standing(d, kind, now)
  local h = health_of(d)
  if not h then return 0, 0 end
  local wait = remaining(h.offline, now, THROTTLE_MOST_US)
  if wait > 0 then return 'f', wait end
  local k = h.kinds[kind]
  if not k or not is_open(k) then return 0, 0 end
  wait = remaining(k.open, now, COOL_MOST_US)
  if wait > 0 then return 2, wait end
  if h.probe ~= '' and remaining(h.good, now, PROBE_US) > 0 then return 'e', 1 end
  return 'p', k.open <= now and now - k.open or 0
end

-- Takes a deployment's scope, the id of an attempt of a kind, and now. Has this attempt try it out.
local function claim(d, id, kind, now)
  local h = told_health(d)
  h.probe, h.kind, h.good = id, kind, now + PROBE_US
end

-- Takes a deployment's scope and an attempt's id. Frees its claim; returns whether it had it.
local function unclaim(d, id)
  local h = health_of(d)
  if not h or h.probe ~= id then return false end
  h.probe, h.kind, h.good = '', 0, 0
  d.told = true
  return true
end

-- Takes a deployment's scope, a kind and now. Returns how much longer than it looks an answer takes
-- because of failures, and the share of its weight that it has on its way back.
local function burden(d, kind, now)
  local h = health_of(d)
  local k = h and h.kinds[kind]
  if not k then return 0, 1 end
  local penalty, share = 0, 1
  if k.failed > 0 then
    local age = now - k.at
    local keep = age > 0 and math.exp(-age / FADE_US) or 1
    penalty = FAILURE_US * k.failed * keep / ((k.fine + k.failed) * keep + PRIOR)
  end
  if k.closed > 0 then
    local left = remaining(k.closed + RAMP_US, now, RAMP_US)
    if left > 0 then share = math.max(1 - left / RAMP_US, LEAST_SHARE) end
  end
  return penalty, share
end

-- Takes a deployment's scope, what is known of a kind, and now. Opens it, for longer each time.
local function open(d, k, now)
  k.openings = k.openings + 1
  k.opened, k.closed = now, 0
  k.open = now + math.min(COOL_US * 2 ^ math.min(k.openings - 1, 5), COOL_MOST_US)
  k.fine, k.failed, k.streak, k.at = 0, 0, 0, now
  d.s[6] = k.open
end

-- Takes a deployment's scope, now, a kind, when the attempt was admitted, and whether it was to try the
-- deployment out. Counts its failure.
local function failed(d, now, kind, at, tried)
  local h = told_health(d)
  local k = h.kinds[kind]
  if not k or not matters(k, now) then
    k = { fine = 0, failed = 0, at = now, streak = 0, openings = 0, opened = 0, open = 0, closed = 0 }
    h.kinds[kind] = k
  end
  if is_open(k) then
    -- What was under way before says nothing new; nor what went there because nobody else was left.
    if tried then open(d, k, now) end
  else
    fade(k, now)
    if at < k.closed and k.closed <= now then return end
    k.failed, k.streak = k.failed + 1, k.streak + 1
    local count = k.fine + k.failed
    if (k.streak >= PATIENCE or count >= SAMPLES) and k.failed >= count * BROKEN then open(d, k, now) end
  end
end

-- Takes a deployment's scope, now, a kind, and when the attempt was admitted. Counts its success.
local function succeeded(d, now, kind, at)
  local h = health_of(d)
  local k = h and h.kinds[kind]
  if not k then return end
  d.told = true
  if not matters(k, now) then return end
  if is_open(k) then
    -- What was admitted before it opened was answered by what was there then.
    if at < k.opened and k.opened <= now then return end
    k.closed, k.fine, k.failed, k.streak, k.at = now, 0, 0, 0, now
    d.s[6] = 0
  else
    fade(k, now)
    k.fine, k.streak = k.fine + 1, 0
  end
end

-- Takes a deployment's scope, now, and {requests, for how long, tokens, for how long}, as its vendor
-- said that they are left; -1 is not said. In one window the least that was said counts.
local function noted(d, now, left)
  local h = told_health(d)
  for i, what in ipairs({ 'requests', 'tokens' }) do
    local said, lasts = left[2 * i - 1], math.min(left[2 * i], THROTTLE_MOST_US)
    if said >= 0 and lasts > 0 then
      local until_key = what .. '_until'
      if remaining(h[until_key], now, THROTTLE_MOST_US) > 0 then said = math.min(said, h[what]) end
      h[what], h[until_key] = said, now + lasts
    end
  end
end

-- Takes a deployment's scope, now, and the tokens that a call may use. Returns for how long its vendor
-- lets nothing of the kind pass.
local function unpaid(d, now, tokens)
  local h = health_of(d)
  if not h then return 0 end
  local wait = 0
  if h.requests < 1 then wait = remaining(h.requests_until, now, THROTTLE_MOST_US) end
  if h.tokens < tokens then wait = math.max(wait, remaining(h.tokens_until, now, THROTTLE_MOST_US)) end
  return wait
end

-- Takes a deployment's scope, now, and the tokens that a call may use. Takes them of what is left.
local function pay(d, now, tokens)
  local h = health_of(d)
  if not h then return end
  if remaining(h.requests_until, now, THROTTLE_MOST_US) > 0 then
    h.requests, d.told = h.requests - 1, true
  end
  if remaining(h.tokens_until, now, THROTTLE_MOST_US) > 0 then
    h.tokens, d.told = h.tokens - tokens, true
  end
end

-- Takes the memo and now. Writes the health that was changed, or that there is nothing to tell any more.
local function write_health(memo, now)
  for key, d in pairs(memo) do
    if d and d.told then
      local h = d.health
      if h.probe ~= '' and remaining(h.good, now, PROBE_US) == 0 then h.probe, h.kind, h.good = '', 0, 0 end
      local row = { h.probe, h.kind, h.good, 0, 0, 0, 0, 0 }
      if remaining(h.requests_until, now, THROTTLE_MOST_US) > 0 then row[4], row[5] = h.requests, h.requests_until end
      if remaining(h.tokens_until, now, THROTTLE_MOST_US) > 0 then row[6], row[7] = h.tokens, h.tokens_until end
      if remaining(h.offline, now, THROTTLE_MOST_US) > 0 then row[8] = h.offline end
      for kind = 1, KINDS do
        local k = h.kinds[kind]
        if k and matters(k, now) then
          local n = #row
          row[n + 1], row[n + 2], row[n + 3], row[n + 4], row[n + 5] = kind, k.fine, k.failed, k.at, k.streak
          row[n + 6], row[n + 7], row[n + 8], row[n + 9] = k.openings, k.opened, k.open, k.closed
        end
      end
      if #row > 8 or h.probe ~= '' or row[5] > 0 or row[7] > 0 or row[8] > 0 then
        redis.call('HSET', key, 'h', cmsgpack.pack(row))
      else
        redis.call('HDEL', key, 'h')
      end
    end
  end
end
