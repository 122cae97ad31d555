-- Look at the shares that a cell has of what is divided over cells, or write them.
--
-- Who divides takes a turn in every cell before it looks: from then on nobody whose turn was before can
-- write there any more. So what all cells have said to one turn stays true until it writes itself.
-- A share that becomes smaller takes what is left in the bucket with it, down to what the smaller
-- bucket holds; one that becomes larger brings nothing: no division ever grants.
--
-- KEYS[1]  turn    hash    number and token of the last turn
-- KEYS[2+] scopes  hashes of what is divided, and limited (see scope.lua)
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  number  of this turn
-- ARGV[3]  token   of whose turn it is: two may take the same number
-- ARGV[4+] shares  one per scope: packed limits to write, or empty to leave it as it is. When there
--                  are none, the turn is taken
--
-- Returns {the number of the turn that stands in the way}, or {number, now, limits, state, limits,
-- state, ...} of all scopes as they are now; empty texts where nothing is. What was written for an
-- older version of the configuration than is there is left out.

--- @include gcra
--- @include governance:budget
--- @include scope

local now = clock(ARGV[1])
local number, token = tonumber(ARGV[2]), ARGV[3]
local last = redis.call('HMGET', KEYS[1], 'number', 'token')
local last_number = tonumber(last[1] or 0)
local is_ours = last_number == number and last[2] == token
if #ARGV == 3 then
  if not is_ours and last_number >= number then return { last_number } end
  redis.call('HSET', KEYS[1], 'number', number, 'token', token)
elseif not is_ours then
  return { last_number }
end

-- Takes a scope and the limits that follow. Returns the state under these: in every bucket there is as
-- much as before, or as much as it holds now; what was owed is owed still.
local function carried(st, new)
  local l, s, at, contents = st.l, st.s, st.at, {}
  for r = 7, l[6], 6 do
    at = at + 1
    contents[l[r + 5]] = (l[r + 2] - s[at] + now) / l[r + 1]
  end
  s, at = relaid(s, new), st.at
  for r = 7, new[6], 6 do
    at = at + 1
    local content = contents[new[r + 5]]
    if content then
      -- In whole sixteenths, rounded so that it is never more.
      local sixteenths = (new[r + 2] - content * new[r + 1]) * 16
      local ahead = (sixteenths + -sixteenths % 1) / 16
      s[at] = ahead > 0 and now + ahead or now
    end
  end
  s[1] = new[2]
  return s
end

local memo, found = {}, { number, now }
for i = 2, #KEYS do
  local st = scope(memo, KEYS[i], now)
  local packed = ARGV[2 + i]
  if packed and packed ~= '' then
    local new = cmsgpack.unpack(packed)
    if not st then
      redis.call('HSET', KEYS[i], 'l2', packed)
      st = { l = new, s = fresh(new) }
    elseif new[1] >= st.l[1] then
      st.s, st.l = carried(st, new), new
      redis.call('HSET', KEYS[i], 'l2', packed, 's2', cmsgpack.pack(st.s))
    end
  end
  found[#found + 1] = st and cmsgpack.pack(st.l) or ''
  found[#found + 1] = st and cmsgpack.pack(st.s) or ''
end
return found
