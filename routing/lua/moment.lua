-- What time it is, on the one clock that all replicas share.

-- Takes the override of the tests ("" asks the server). Returns us since 2024-01-01.
local function moment(override)
  if override ~= '' then return tonumber(override) end
  local t = redis.call('TIME')
  return (t[1] - 1704067200) * 1000000 + t[2]
end
