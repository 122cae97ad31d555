-- What was learned of a model at a task, or at a kind of its calls: sums that fade, so that what is new counts more.
--
-- A lesson is {calls, defects, votes, score, tokens, answers, us, timed, at}: calls and how many of them had a
-- defect; votes of callers and their sum; output tokens and the answers they were of; the time that tokens took
-- after the first and how many they were; and when all of this was last added to, in us since 2024-01-01.
-- Sums are added, never overwritten, so that every replica's part counts once.

-- Half of what is known is forgotten in six hours, and no more is remembered than this.
local HALF_LIFE = 21600000000
local MOST_CALLS, MOST_TOKENS = 400, 100000
local KEEP_S = 2592000

--- @include moment

-- Takes a lesson, the places of a count and of what belongs to it, and the most that may be counted.
local function bounded(l, count, part, most)
  if l[count] > most then
    local share = most / l[count]
    l[count], l[part] = most, l[part] * share
  end
end

-- Takes the lessons' key, a field, what to add (eight sums), and now. Adds it.
local function add(key, field, sums, now)
  local raw = redis.call('HGET', key, field)
  local l = raw and cmsgpack.unpack(raw) or { 0, 0, 0, 0, 0, 0, 0, 0, now }
  -- A clock that has stepped back forgets nothing.
  local keep = 2 ^ (-math.max(now - l[9], 0) / HALF_LIFE)
  for i = 1, 8 do l[i] = l[i] * keep + sums[i] end
  l[9] = math.max(now, l[9])
  bounded(l, 1, 2, MOST_CALLS)
  bounded(l, 3, 4, MOST_CALLS)
  bounded(l, 6, 5, MOST_CALLS)
  bounded(l, 8, 7, MOST_TOKENS)
  redis.call('HSET', key, field, cmsgpack.pack(l))
  redis.call('EXPIRE', key, KEEP_S)
end
