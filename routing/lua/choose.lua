-- The health of a deployment and the choice among several: peak-EWMA times work in flight.
--
-- The expected wait at a deployment is its first-byte latency times (in flight + 1), over its
-- weight (Finagle's peak EWMA: a worse sample counts at once, a better one slowly).
-- An idle deployment's latency fades, so that it is tried again, but only so far that it draws no
-- herd; in the end it is forgotten, and the deployment counts as its peers do on average.

--- @include breaker

local TAU = 10000000
local FORGET = 30000000

-- Takes a deployment's scope and now. Returns for how long its vendor asked to be left alone.
local function throttled(d, now)
  return remaining(d.s[7], now, THROTTLE_MOST_US)
end

-- Takes a deployment's scope and now. Returns its faded latency, 0 when nothing is known.
local function latency(d, now)
  local s = d.s
  if s[3] <= 0 then return 0 end
  if d.lat then return d.lat end
  local age = now - s[4]
  if age < 0 then age = 0 end
  if age > FORGET then
    d.lat = 0
  else
    d.lat = s[3] * math.exp(-math.min(age, TAU) / TAU)
  end
  return d.lat
end

-- Takes a deployment, its latency (or that of its peers), a kind of call and now. Returns the cost: failures
-- make it slower, and on its way back it has a part of its weight.
local function expected_wait(d, lat, kind, now)
  local penalty, share = burden(d, kind, now)
  return (lat + penalty) * (d.s[2] + 1) / (d.l[4] * share)
end

-- A favoured deployment may have a quarter more under way than its share, and some calls more.
local FAVOUR_SHARE = 1.25
local FAVOUR_CALLS = 4
-- And be twice as slow.
local FAVOUR_LATENCY = 2

-- Takes the deployment that an ask favours, the one that would be chosen, the latency of each, the kind of
-- call, now, and what is under way and how much weight there is at all that could serve. Returns whether
-- the favour holds: it is a bonus for a warm cache, and load goes before it (consistent hashing with
-- bounded loads, Mirrokni et al., arXiv 1608.01350).
local function is_near(d, best, lat, best_lat, kind, now, flying, weight)
  local penalty, share = burden(d, kind, now)
  local best_penalty = burden(best, kind, now)
  if share < 1 or lat + penalty > FAVOUR_LATENCY * (best_lat + best_penalty) then return false end
  return d.s[2] + 1 <= FAVOUR_SHARE * (flying + 1) * d.l[4] / weight + FAVOUR_CALLS
end

-- Takes a deployment's scope, now and a first-byte time in us. Teaches it.
local function observe(d, now, sample)
  local s = d.s
  local known = latency(d, now)
  if sample > known then
    s[3] = sample
  else
    local age = now - s[4]
    if age < 0 then age = 0 end
    -- A busy deployment gets many samples per tau; each weighs at least a little.
    local keep = math.exp(-age / TAU)
    if keep > 0.95 then keep = 0.95 end
    s[3] = known * keep + sample * (1 - keep)
  end
  s[4] = now
  d.lat = nil
end

-- Takes a deployment's scope, now, its health word (1 fine, 2 failed, 3 throttled, 4 nobody is there,
-- 0 says nothing), the first-byte time, the cooling that the vendor asked for in us, the kind of call,
-- the attempt's id, and when it was admitted.
local function learn(d, now, health, ttft, cool, kind, id, at)
  local s = d.s
  local tried = unclaim(d, id)
  if health == 1 then
    s[5] = 0
    if ttft > 0 then observe(d, now, ttft) end
    succeeded(d, now, kind, at)
  elseif health == 2 then
    s[5] = s[5] + 1
    failed(d, now, kind, at, tried)
  elseif health == 4 then
    s[5] = s[5] + 1
    for each = 1, KINDS do failed(d, now, each, at, tried) end
  end
  -- What the vendor asked for is kept apart from our own judgement: it is never overridden.
  if health == 3 and cool < COOL_US then cool = COOL_US end
  if cool > THROTTLE_MOST_US then cool = THROTTLE_MOST_US end
  if cool > throttled(d, now) then s[7] = now + cool end
end
