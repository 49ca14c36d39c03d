-- Reads a page of live records in the order of their names.
-- KEYS: index, log, counted
-- ARGV: key of a record without its name, lower bound, upper bound, now, most records, bytes that
-- the last of them reaches
-- Returns {position or '', outcome, name, record...}, a record being three elements: name, head,
-- data. One that lacks the head or the data is told without a head. The outcome is 'end'; 'more'
-- when another record follows; 'pause' when the call has done enough and goes on after the name.
local index, log, records = KEYS[1], KEYS[2], ARGV[1]
local min, max, now = ARGV[2], ARGV[3], tonumber(ARGV[4])
local most, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local reply, orphans = { '', 'end', '' }, {}
local found, bytes, scanned = 0, 0, 0

-- The attributes, of which the deadline is the first, begin with the first semicolon.
local function is_over(head)
  local at = string.find(head, ';', 1, true)
  local expires_at = at and tonumber(string.match(head, '^%d+', at + 1))
  return expires_at and expires_at <= now
end

local function scan()
  while true do
    local batch = math.min(most - found + 1, 256)
    local names = redis.call('ZRANGEBYLEX', index, min, max, 'LIMIT', 0, batch)
    for _, name in ipairs(names) do
      local it = redis.pcall('HMGET', records .. name, 'version', 'data')
      -- Of a foreign type; whatever else fails is no matter of this record.
      if it.err and not string.find(it.err, 'WRONGTYPE', 1, true) then error(it) end
      local head, data = it[1], it[2]
      if not (it.err or head or data) then
        orphans[#orphans + 1] = name
      elseif not (head and data) or not is_over(head) then
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

-- Only names whose record is really gone: to a clock that is ahead, live ones look expired.
-- On a replica or without memory the cleaning has to wait; the reading has not.
for _, name in ipairs(orphans) do
  redis.pcall('ZREM', index, name)
  redis.pcall('ZREM', KEYS[3], name)
end
if #orphans > 0 and redis.call('EXISTS', index) == 0 then redis.pcall('PEXPIRE', log, GRACE_MS) end

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
