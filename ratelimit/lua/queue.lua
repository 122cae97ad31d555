-- Who waits at a deployment that can take no more, and who goes first there.
--
-- There is a queue only while somebody waits: a third field of the deployment's hash,
--   w  {grants since the last of normal, grants since the last of economy, tickets, served}
--        ticket  {attempt id, replica, level, tenant, asked at, good until}; level: 1 premium, 2 normal, 3 economy
--        served  tenant, service, tenant, service, ...
-- Premium goes before normal before economy, but a lower level that waits gets one grant in so many.
-- Within a level goes first whose tenant received the least weighted service since the queue began: the
-- virtual token counter (Sheng et al., "Fairness in Serving Large Language Models", arXiv 2401.00588).
-- A tenant that comes (or comes back) counts from the least of those who wait: idleness earns no credit.
-- Within a tenant goes first who asked first.
-- A ticket is renewed each time its ask is repeated, and soon over when it is not: nobody waits for the dead.

local NORMAL, ECONOMY = 2, 3
-- One grant in so many goes to a lower level, if one waits.
local NORMAL_TURN, ECONOMY_TURN = 10, 20
local TICKET_US = 400000
-- More do not wait: who is last in turn is refused.
local LONGEST_QUEUE = 64

-- Takes a deployment's scope and now. Returns its queue, false when nobody waits there.
local function queue_of(d, now)
  if d.queue ~= nil then return d.queue end
  d.queue = false
  if d.w then
    local w = cmsgpack.unpack(d.w)
    local tickets, served = {}, {}
    for _, t in ipairs(w[3]) do
      if t[6] > now and t[6] <= now + TICKET_US then tickets[#tickets + 1] = t end
    end
    for i = 1, #w[4], 2 do served[w[4][i]] = w[4][i + 1] end
    if #tickets > 0 then
      d.queue = { normal = w[1], economy = w[2], tickets = tickets, served = served }
    else
      d.requeued = true
    end
  end
  return d.queue
end

-- Takes a queue. Returns the least service of a tenant that waits in it, 0 when nobody does.
local function least_served(q)
  local least
  for _, t in ipairs(q.tickets) do
    local v = q.served[t[4]] or 0
    if not least or v < least then least = v end
  end
  return least or 0
end

-- Takes a queue and a tenant. Returns the service that counts for it.
local function service_of(q, tenant)
  local v = q.served[tenant]
  for _, t in ipairs(q.tickets) do
    if t[4] == tenant then return v or 0 end
  end
  local least = least_served(q)
  return v and v > least and v or least
end

-- Takes a queue. Returns the level of which one goes next out of rank, nil when rank decides.
local function turn_of(q)
  local turn
  for _, t in ipairs(q.tickets) do
    if t[3] == ECONOMY and q.economy >= ECONOMY_TURN - 1 then return ECONOMY end
    if t[3] == NORMAL and q.normal >= NORMAL_TURN - 1 then turn = NORMAL end
  end
  return turn
end

-- Takes a queue and two tickets of one level, and what counts as the service of the second's tenant.
-- Returns whether the first goes first.
local function sooner(q, a, b, v)
  local w = q.served[a[4]] or 0
  if w ~= v then return w < v end
  if a[5] ~= b[5] then return a[5] < b[5] end
  return a[1] < b[1]
end

-- Takes a queue and a ticket that is in it or not. Returns how many go before it.
local function ahead(q, mine)
  for _, t in ipairs(q.tickets) do
    -- Who asks again has been waiting since the first time.
    if t[1] == mine[1] then mine = t end
  end
  local level, turn = mine[3], turn_of(q)
  local before, v = 0, service_of(q, mine[4])
  -- Out of rank goes one of them, not all.
  if turn and turn > level then before = 1 end
  for _, t in ipairs(q.tickets) do
    if t[1] ~= mine[1] then
      if t[3] == level then
        if sooner(q, t, mine, v) then before = before + 1 end
      elseif t[3] < level and level ~= turn then
        before = before + 1
      end
    end
  end
  return before
end

-- Takes a queue and tickets of it to leave out, by their ids. Returns the one that goes next, nil
-- when there is none.
local function next_of(q, without)
  local turn, best = turn_of(q), nil
  for _, t in ipairs(q.tickets) do
    if not without[t[1]] then
      if not best then
        best = t
      elseif t[3] == best[3] then
        if sooner(q, t, best, q.served[best[4]] or 0) then best = t end
      elseif t[3] == turn or (t[3] < best[3] and best[3] ~= turn) then
        best = t
      end
    end
  end
  return best
end

-- Takes a queue and an attempt id. Takes its ticket out of it; returns whether it had one.
local function leave(q, id)
  for i, t in ipairs(q.tickets) do
    if t[1] == id then
      table.remove(q.tickets, i)
      return true
    end
  end
  return false
end

-- Takes a deployment's scope, now and a ticket. Renews it, or adds it; returns whether there was room.
local function join(d, now, ticket)
  local q = queue_of(d, now)
  if not q then
    q = { normal = 0, economy = 0, tickets = {}, served = {} }
    d.queue = q
  end
  q.served[ticket[4]] = service_of(q, ticket[4])
  for _, t in ipairs(q.tickets) do
    if t[1] == ticket[1] then ticket[5] = t[5] end
  end
  leave(q, ticket[1])
  ticket[6] = now + TICKET_US
  q.tickets[#q.tickets + 1] = ticket
  d.requeued = true
  if #q.tickets <= LONGEST_QUEUE then return true end
  local last = q.tickets[1]
  for _, t in ipairs(q.tickets) do
    if t[3] > last[3] or (t[3] == last[3] and sooner(q, last, t, q.served[t[4]] or 0)) then last = t end
  end
  leave(q, last[1])
  return last[1] ~= ticket[1]
end

-- Takes a deployment's scope with a queue, the ticket of who is granted, and the tokens that it may use
-- per weight of its tenant. Counts them.
local function serve(d, ticket, tokens)
  local q = d.queue
  q.served[ticket[4]] = service_of(q, ticket[4]) + tokens
  leave(q, ticket[1])
  q.normal = ticket[3] == NORMAL and 0 or q.normal + 1
  q.economy = ticket[3] == ECONOMY and 0 or q.economy + 1
  d.requeued = true
end

-- Takes a deployment's scope with a queue, a tenant, and by how many tokens per weight a call of its used
-- more than was counted. Counts the truth, where the tenant is still counted.
local function correct(d, tenant, more)
  local served = d.queue.served
  if served[tenant] then
    served[tenant] = math.max(served[tenant] + more, 0)
    d.requeued = true
  end
end

-- Takes the key of a deployment and its scope. Writes its queue, or that there is none any more.
local function write_queue(key, d)
  local q = d.queue
  if not q or #q.tickets == 0 then
    redis.call('HDEL', key, 'w')
    return
  end
  local served, waits, least = {}, {}, least_served(q)
  for _, t in ipairs(q.tickets) do waits[t[4]] = true end
  for tenant, v in pairs(q.served) do
    -- Who does not wait and has had no more than the least is as good as unknown.
    if waits[tenant] or (v > least and #served < 4 * LONGEST_QUEUE) then
      served[#served + 1], served[#served + 2] = tenant, v
    end
  end
  redis.call('HSET', key, 'w', cmsgpack.pack({ q.normal, q.economy, q.tickets, served }))
end

-- Takes the memo. Writes the queues that were changed.
local function write_queues(memo)
  for key, found in pairs(memo) do
    if found and found.requeued then write_queue(key, found) end
  end
end

-- Takes the deployments whose places have come free, and how many of each. Calls those whose turn it is,
-- on the channels of their replicas, whose names begin with `calls`.
local function call_next(freed, calls)
  for d, n in pairs(freed) do
    local called = {}
    for _ = 1, n do
      local t = next_of(d.queue, called)
      if not t then break end
      called[t[1]] = true
      redis.call('PUBLISH', calls .. t[2], t[1])
    end
  end
end
