-- The calendar of budgets, what is left of one, and the thresholds that it crosses.
--
-- A period ends by the calendar of the budget's time zone. A zone is a text: empty for UTC, or eight
-- bytes for each stretch of time with one offset (since when, seconds since 2024-01-01, unsigned;
-- the offset from UTC in seconds, signed; both big-endian), the first since 0.
-- Moments are microseconds since 2024-01-01 (a Monday). Period ids: days and weeks since then,
-- months and quarters since year 0, each from 1; the total is one period that never ends. The
-- civil-date arithmetic is Howard Hinnant's days_from_civil and civil_from_days.

local DAY = 86400000000
local DAYS_BEFORE_2024 = 719468 + 19723

-- Takes a zone and a stretch's number from 0. Returns since when it is, in us, and its offset in us.
local function stretch(zone, i)
  local since, offset = struct.unpack('>I4i4', zone, 8 * i + 1)
  return since * 1000000, offset * 1000000
end

-- Takes a zone that is not UTC and a moment. Returns the number of the stretch that holds it.
local function stretch_at(zone, at)
  local low, high = 0, #zone / 8 - 1
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if stretch(zone, middle) <= at then low = middle else high = middle - 1 end
  end
  return low
end

-- Takes a zone and a moment. Returns the day there, since 2024-01-01 from 0, its year and its month.
local function civil(zone, at)
  if zone ~= '' then
    local _, offset = stretch(zone, stretch_at(zone, at))
    at = at + offset
  end
  local day = math.floor(at / DAY)
  local z = day + DAYS_BEFORE_2024
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return day, yoe + era * 400 + (month <= 2 and 1 or 0), month
end

local calendars = {}

-- Takes a zone and now. Returns {day, week, month, quarter, total}: the ids of the periods that hold
-- it there. Remembered for the call, which has one now.
local function period_ids(zone, now)
  local found = calendars[zone]
  if not found then
    local day, year, month = civil(zone, now)
    found = { day + 1, math.floor(day / 7) + 1, year * 12 + month,
      year * 4 + math.ceil(month / 3), 1 }
    calendars[zone] = found
  end
  return found
end

-- Takes a zone, a kind of period and now. Returns the moment at which the period ends, 0 when never.
local function period_end(zone, kind, now)
  local day, year, month = civil(zone, now)
  local last
  if kind == 1 then last = day + 1
  elseif kind == 2 then last = (math.floor(day / 7) + 1) * 7
  elseif kind == 5 then return 0
  else
    month = kind == 3 and month + 1 or math.ceil(month / 3) * 3 + 1
    if month > 12 then year, month = year + 1, 1 end
    local y = month <= 2 and year - 1 or year
    local era = math.floor(y / 400)
    local yoe = y - era * 400
    local doy = math.floor((153 * (month > 2 and month - 3 or month + 9) + 2) / 5)
    local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
    last = era * 146097 + doe - DAYS_BEFORE_2024
  end
  local ends = last * DAY
  if zone == '' then return ends end
  -- The first moment whose date there is the new one: midnight may be skipped, or come twice.
  for i = stretch_at(zone, now), #zone / 8 - 1 do
    local since, offset = stretch(zone, i)
    local at = math.max(since, ends - offset)
    if 8 * (i + 1) >= #zone or at < stretch(zone, i + 1) then return at end
  end
end

-- Takes money per thousand tokens and a number of tokens. Returns nano-USD, rounded up.
local function priced(tokens, nusd_per_ktok)
  return math.ceil(tokens * nusd_per_ktok / 1000)
end

-- Takes limits, the place of a budget in them, and now. Returns its amount: the one that it is
-- raised to, while it is.
local function amount_of(l, b, now)
  if l[b + 4] > now then return l[b + 3] end
  return l[b + 1]
end

-- Takes a scope, the place of a budget's money in its state, now, and a list. Adds an event for each
-- threshold that what is spent has reached and that was not told before: once per period for each
-- threshold of each amount, however often it is crossed. Notes at st[m] from what sum on there may be
-- more to tell. See scope.lua for the layouts.
local function tell(st, m, now, events)
  local l, s = st.l, st.s
  local told, level_told = s[m + 4], s[m + 5]
  local most, highest, due = told, level_told, math.huge
  for b = l[6] + 1, #l, 7 do
    if l[b] == s[m] then
      local amount, alerts = amount_of(l, b, now), l[b + 6]
      for i = 1, #alerts do
        local percent = string.byte(alerts, i)
        -- In two parts: the product may be beyond what a Lua number holds exactly.
        local level = math.floor(amount / 100) * percent + math.ceil(amount % 100 * percent / 100)
        if s[m + 2] < level then
          due = math.min(due, level)
          break
        end
        if percent > told or level > level_told then
          events[#events + 1] = cmsgpack.pack({ st.key, s[m], s[m + 1], percent, amount,
            s[m + 2], l[b + 2], now })
          most, highest = math.max(most, percent), math.max(highest, level)
        end
      end
    end
  end
  s[m + 4], s[m + 5], st[m] = most, highest, due
end
