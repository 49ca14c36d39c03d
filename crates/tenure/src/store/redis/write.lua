-- Writes one record with all that belongs to it.
-- KEYS: record, log
-- ARGV: now, precondition ('' | 'absent' | 'present' | a token | 'tag:' and a tag), stamp, expires_at,
--   capacity, name, data, tag, former versions to keep
-- Returns the new version; {} or {token, tag} when the precondition fails; FULL.
local call, record, log = redis.call, KEYS[1], KEYS[2]
local wanted, stamp, expires_at, capacity, name = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local tag, kept = ARGV[8], tonumber(ARGV[9])

local old
if kept > 0 then
  old = call('HMGET', record, 'version', 'expires_at', 'counted', 'fence', 'tag', 'oldest', 'data')
else
  old = call('HMGET', record, 'version', 'expires_at', 'counted', 'fence', 'tag', 'oldest')
end
local version, old_expires_at, fence = old[1], old[2] or '', old[4]
local old_tag, oldest = old[5] or '', tonumber(old[6])
if fence and string.find(fence, stamp, 1, true) then
  return redis.error_reply('FENCED the write was given up')
end

local live = version and (old_expires_at == '' or tonumber(old_expires_at) > tonumber(ARGV[1]))
if wanted ~= '' and not (wanted == 'absent' and not live)
  and not (live and (wanted == version or wanted == 'present'
    or (old_tag ~= '' and wanted == 'tag:' .. old_tag))) then
  return live and { version, old_tag } or {}
end

local counts_already = live and old[3]
local counted_key = capacity ~= '' and string.sub(log, 1, -4) .. 'counted'
local reclaimed
if counted_key and not counts_already then
  -- Only what the server has reclaimed by its own clock may leave the set: to a process whose
  -- clock is ahead, others' live records look expired.
  local time = call('TIME')
  reclaimed = string.format('%.0f', tonumber(time[1]) * 1000 - SKEW_MS)
  if call('ZCOUNT', counted_key, '(' .. ARGV[1], '+inf') >= tonumber(capacity) then
    return redis.status_reply('FULL')
  end
end

local number = 1
if live then
  -- A token ends with a dash and 16 digits.
  number = tonumber(string.sub(version, 1, -18))
  if not number then return redis.error_reply('DAMAGED the version of the record') end
  number = number + 1
end
local token = string.format('%.0f-%s', number, stamp)

-- A script that is stopped keeps what it has done, so what the user may not do is found out before
-- anything is touched. Who hears of the change looks at the log only after the script.
local denied
local function needs(command, ...)
  if not redis.acl_check_cmd(command, ...) then denied = command end
end
local told = redis.pcall('PUBLISH', log, '')
if type(told) == 'table' then denied = 'PUBLISH' end
needs('XADD', log, '*', 'name', name)
needs('HSET', record, 'data', '')
if old[3] or oldest or old_tag ~= '' then needs('HDEL', record, 'tag') end
if old[3] and not counted_key then needs('ZREM', string.sub(log, 1, -4) .. 'counted', name) end
if counted_key then needs('ZADD', counted_key, 0, name) end
if reclaimed then needs('ZREMRANGEBYSCORE', counted_key, '-inf', reclaimed) end
local moved = not version or old_expires_at ~= expires_at
local index, lifetime, needed
if moved then
  index = string.sub(log, 1, -4) .. 'index'
  lifetime = call('PEXPIRETIME', index)
  if not version then needs('ZADD', index, 0, name) end
  -- What is to become of the partition's own keys, which changes with few writes.
  local ending
  if expires_at ~= '' then
    needs('PEXPIREAT', record, '1')
    needed = tonumber(expires_at) + SKEW_MS + GRACE_MS
    ending = lifetime ~= -1 and (lifetime < needed or counted_key) and 'PEXPIREAT'
  else
    if version or fence then
      needs('HDEL', record, 'expires_at')
      needs('PERSIST', record)
    end
    ending = lifetime ~= -1 and 'PERSIST'
  end
  if ending then
    needs(ending, index, '1')
    needs(ending, string.sub(log, 1, -4) .. 'counted', '1')
    needs(ending, log, '1')
  end
end
if denied then return redis.error_reply('NOPERM this user may not ' .. denied) end

-- Whatever can find foreign data under a key comes before the record is touched. And the first
-- command to write is one that a server without memory refuses: it lets a script that has already
-- written do as it likes.
if not version then
  if not fence and call('EXISTS', record) == 1 then
    return redis.error_reply('DAMAGED a hash without a version')
  end
  call('XLEN', log) -- Refuses a foreign log before there is an entry of what is not there.
  call('ZADD', index, 0, name)
end
if counted_key then
  if moved or not counts_already then
    if version then call('XLEN', log) end
    call('ZADD', counted_key, expires_at == '' and '+inf' or expires_at, name)
  end
elseif old[3] then
  call('ZCOUNT', string.sub(log, 1, -4) .. 'counted', 0, 0)
end
call('XADD', log, 'MAXLEN', '~', BACKLOG, '*',
  'name', name, 'token', token, 'expires_at', expires_at, 'tag', tag)
if reclaimed then call('ZREMRANGEBYSCORE', counted_key, '-inf', reclaimed) end
if old[3] and not counted_key then call('ZREM', string.sub(log, 1, -4) .. 'counted', name) end

local set, unset = { 'version', token, 'data', ARGV[7] }, {}
local function put(field, value)
  set[#set + 1] = field
  set[#set + 1] = value
end
if tag ~= '' then put('tag', tag) elseif old_tag ~= '' then unset[1] = 'tag' end
if not live then put('created_at', ARGV[1]) end
if counted_key then
  if not old[3] then put('counted', '1') end
elseif old[3] then
  unset[#unset + 1] = 'counted'
end
-- The replaced version moves to a field of its own; those before `first` go.
local first
if live and kept > 0 then
  first = math.max(number - kept, oldest or number - 1)
  put(string.format('was:%.0f', number - 1),
    version .. '\n' .. (old_tag == '' and '0' or '1' .. old_tag) .. (old[7] or ''))
  if first ~= oldest then put('oldest', string.format('%.0f', first)) end
end
if oldest then
  if not first then unset[#unset + 1] = 'oldest' end
  local last = (tonumber(string.sub(version, 1, -18)) or oldest) - 1
  for former = math.max(oldest, last + 1 - KEPT), math.min(last, (first or last + 1) - 1) do
    unset[#unset + 1] = string.format('was:%.0f', former)
  end
end
call('HSET', record, unpack(set))
if unset[1] then call('HDEL', record, unpack(unset)) end
if moved then
  if expires_at ~= '' then
    call('HSET', record, 'expires_at', expires_at)
    call('PEXPIREAT', record, string.format('%.0f', tonumber(expires_at) + SKEW_MS))
  elseif version or fence then
    call('HDEL', record, 'expires_at')
    call('PERSIST', record)
  end
  -- The partition's own keys outlive its records, and not by much.
  local counted = string.sub(log, 1, -4) .. 'counted'
  if expires_at == '' then
    if lifetime ~= -1 then
      call('PERSIST', index)
      call('PERSIST', counted)
      call('PERSIST', log)
    end
  elseif lifetime ~= -1 then
    if lifetime < needed then
      local until_ms = string.format('%.0f', needed + GRACE_MS)
      call('PEXPIREAT', index, until_ms)
      call('PEXPIREAT', counted, until_ms)
      call('PEXPIREAT', log, until_ms)
    elseif counted_key then
      call('PEXPIREAT', counted, string.format('%.0f', lifetime))
    end
  end
end
return number
