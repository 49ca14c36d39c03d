-- Reads a page of live records in the order of their names, and puts aside what is over.
-- KEYS: index, log, counted, past:0, past:1
-- ARGV: key of a record without its name, lower bound, upper bound, now, most records, bytes that
-- the last of them reaches
-- Returns {position or '', outcome, name, record...}, a record being three elements: name, head,
-- data. One that lacks the head or the data is told without a head. The outcome is 'end'; 'more'
-- when another record follows; 'pause' when the call has done enough and goes on after the name.
local index, log, records = KEYS[1], KEYS[2], ARGV[1]
local min, max, now = ARGV[2], ARGV[3], tonumber(ARGV[4])
local most, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local reply, orphans, past = { '', 'end', '' }, {}, {}
local found, bytes, scanned = 0, 0, 0

-- The lifetime of a set of the past tells what was over when a name was put there last. To a clock
-- that has not come so far, records there may be live.
local sources, lifetimes = { index }, {}
for at = 4, 5 do
  local until_ms = redis.call('PEXPIRETIME', KEYS[at])
  lifetimes[KEYS[at]] = until_ms
  if until_ms == -1 or (until_ms >= 0 and now < until_ms - SKEW_MS - PAST_MS) then
    sources[#sources + 1] = KEYS[at]
  end
end

-- Names of the index where there are others: those are aside already.
local is_listed = {}

-- The comparison of Lua goes by the server's locale.
local function comes_before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- The next names, in their order; fewer than `count` when there are no more.
local function names_after(count)
  local names, next = redis.call('ZRANGEBYLEX', index, min, max, 'LIMIT', 0, count), {}
  if #sources == 1 then return names end
  for _, name in ipairs(names) do is_listed[name] = true end
  for source = 2, #sources do
    local others = redis.call('ZRANGEBYLEX', sources[source], min, max, 'LIMIT', 0, count)
    for _, name in ipairs(others) do names[#names + 1] = name end
  end
  table.sort(names, comes_before)
  for _, name in ipairs(names) do
    if name ~= next[#next] then next[#next + 1] = name end
    if #next == count then break end
  end
  return next
end

local server_ms
local function is_past(expires_at)
  if not server_ms then
    local time = redis.call('TIME')
    server_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return expires_at <= server_ms - PAST_MS
end

-- The attributes, of which the deadline is the first, begin with the first semicolon.
local function deadline(head)
  local at = string.find(head, ';', 1, true)
  return at and tonumber(string.match(head, '^%d+', at + 1))
end

local function scan()
  local is_over
  while true do
    local batch = math.min(most - found + 1, 256)
    local names = names_after(batch)
    for _, name in ipairs(names) do
      local record, it = records .. name
      if is_over then
        -- The next may be over, too, and then its head will do.
        it = redis.pcall('HMGET', record, 'version')
      else
        it = redis.pcall('HMGET', record, 'version', 'data')
      end
      -- Of a foreign type; whatever else fails is no matter of this record.
      if it.err and not string.find(it.err, 'WRONGTYPE', 1, true) then error(it) end
      local expires_at = it[1] and deadline(it[1])
      is_over = expires_at and expires_at <= now
      if #it == 1 and not is_over then it[2] = redis.call('HMGET', record, 'data')[1] end
      local head, data = it[1], it[2]
      if is_over then
        if (#sources == 1 or is_listed[name]) and is_past(expires_at) then
          past[#past + 1] = name
        end
      elseif not (it.err or head or data) then
        orphans[#orphans + 1] = name
      else
        if found == most or bytes >= most_bytes then return 'more', '' end
        found = found + 1
        bytes = bytes + #(data or '')
        local at = #reply
        reply[at + 1], reply[at + 2], reply[at + 3] = name, data and head or '', data or ''
      end
      scanned = scanned + 1
      if scanned >= PAGE_SCAN then return 'pause', name end
    end
    if #names < batch then return 'end', '' end
    min = '(' .. names[#names]
  end
end
reply[2], reply[3] = scan()

-- The cleaning. On a replica or without memory it has to wait; the reading has not.
-- Whose record is really gone is nobody's any more.
sources[#sources + 1] = KEYS[3]
for first = 1, #orphans, 256 do
  for _, key in ipairs(sources) do
    redis.pcall('ZREM', key, unpack(orphans, first, math.min(first + 255, #orphans)))
  end
end
-- What is over by the server's clock may yet be live by others', until the server reclaims it. So
-- its name is kept aside, out of the way of those whose clocks go as the server's. The two sets take
-- turns, and each has expired before its next.
local aside = past[1] and KEYS[4 + math.floor(server_ms / SKEW_MS) % 2]
local until_ms = aside and math.max(lifetimes[aside], server_ms + SKEW_MS)
for first = 1, #past, 256 do
  local last, members = math.min(first + 255, #past), {}
  for at = first, last do
    members[#members + 1] = '0'
    members[#members + 1] = past[at]
  end
  if type(redis.pcall('ZADD', aside, unpack(members))) == 'number'
    and redis.pcall('PEXPIREAT', aside, string.format('%.0f', until_ms)) == 1 then
    redis.pcall('ZREM', index, unpack(past, first, last))
  end
end
if (orphans[1] or past[1]) and redis.call('EXISTS', index) == 0 then
  redis.pcall('PEXPIRE', KEYS[3], GRACE_MS)
  redis.pcall('PEXPIRE', log, GRACE_MS)
end

local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
if last[1] then
  reply[1] = last[1][1]
else
  local id = redis.pcall('XADD', log, '*', '', '')
  if type(id) == 'string' then
    reply[1] = id
    redis.pcall('PEXPIRE', log, GRACE_MS)
  end
end
return reply
