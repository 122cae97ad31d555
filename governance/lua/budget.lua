-- The calendar of budgets, in UTC.
--
-- Takes microseconds since 2024-01-01 (a Monday). Returns {day, week, month}: the ids of the
-- periods that hold the moment. Month ids count months since year 0; the civil-date arithmetic
-- is Howard Hinnant's days_from_civil, run backwards.

local DAY = 86400000000

local function period_ids(now)
  local day = math.floor(now / DAY)
  local z = day + 19723 + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return { day + 1, math.floor(day / 7) + 1, year * 12 + month }
end

-- Takes money per thousand tokens and a number of tokens. Returns nano-USD, rounded up.
local function priced(tokens, nusd_per_ktok)
  return math.ceil(tokens * nusd_per_ktok / 1000)
end
