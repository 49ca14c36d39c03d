-- Writes one record with all that belongs to it.
-- KEYS: record, index, counted, log, fence
-- ARGV: now, precondition ('' | 'absent' | 'present' | a token), stamp, expires_at, capacity, name, data
-- Returns the new version; {} or {token} when the precondition fails; FULL.
local record, index, counted_key, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local wanted, stamp, expires_at, capacity, name = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local old = redis.call('HMGET', record, 'version', 'stamp', 'expires_at', 'counted')
local version, old_expires_at = old[1], old[3]
if version and not (tonumber(version) and old[2] and (old_expires_at == '' or tonumber(old_expires_at))) then
  return redis.error_reply('DAMAGED the fields of the record')
end
if old[2] == stamp then return tonumber(version) end
if redis.call('EXISTS', KEYS[5]) == 1 and redis.call('SISMEMBER', KEYS[5], stamp) == 1 then
  return redis.error_reply('FENCED the write was given up')
end

local live = version and (old_expires_at == '' or tonumber(old_expires_at) > tonumber(ARGV[1]))
if wanted ~= '' then
  local token = live and version .. '-' .. old[2]
  if (wanted == 'absent' and live) or (wanted == 'present' and not live)
    or (wanted ~= 'absent' and wanted ~= 'present' and wanted ~= token) then
    return live and { token } or {}
  end
end

local counts_already = live and old[4] == '1'
if capacity ~= '' and not counts_already then
  -- Only what the server has reclaimed by its own clock may leave the set: to a process whose
  -- clock is ahead, others' live records look expired.
  local time = redis.call('TIME')
  redis.call('ZREMRANGEBYSCORE', counted_key, '-inf',
    string.format('%.0f', tonumber(time[1]) * 1000 - SKEW_MS))
  if redis.call('ZCOUNT', counted_key, '(' .. ARGV[1], '+inf') >= tonumber(capacity) then
    return redis.status_reply('FULL')
  end
end

-- Whatever can find foreign data under a key comes before the record is touched.
local moved = not version or old_expires_at ~= expires_at
local lifetime = moved and redis.call('PEXPIRETIME', index)
if not version then
  if redis.call('EXISTS', record) == 1 then
    return redis.error_reply('DAMAGED a hash without a version')
  end
  redis.call('ZADD', index, 0, name)
end
if capacity ~= '' then
  if moved or not counts_already then
    redis.call('ZADD', counted_key, expires_at == '' and '+inf' or expires_at, name)
  end
elseif old[4] == '1' then
  redis.call('ZREM', counted_key, name)
end
local new_version = live and string.format('%.0f', tonumber(version) + 1) or '1'
redis.call('XADD', log, 'MAXLEN', '~', BACKLOG, '*',
  'name', name, 'token', new_version .. '-' .. stamp, 'expires_at', expires_at)
redis.call('HSET', record, 'version', new_version, 'stamp', stamp, 'expires_at', expires_at,
  'counted', capacity ~= '' and '1' or '0', 'data', ARGV[7])

if moved then
  if expires_at ~= '' then
    redis.call('PEXPIREAT', record, string.format('%.0f', tonumber(expires_at) + SKEW_MS))
  elseif version then
    redis.call('PERSIST', record)
  end
  -- The partition's own keys outlive its records, and not by much.
  if expires_at == '' then
    if lifetime ~= -1 then
      redis.call('PERSIST', index)
      redis.call('PERSIST', counted_key)
      redis.call('PERSIST', log)
    end
  elseif lifetime ~= -1 then
    local needed = tonumber(expires_at) + SKEW_MS + GRACE_MS
    if lifetime < needed then
      local until_ms = string.format('%.0f', needed + GRACE_MS)
      redis.call('PEXPIREAT', index, until_ms)
      redis.call('PEXPIREAT', counted_key, until_ms)
      redis.call('PEXPIREAT', log, until_ms)
    elseif capacity ~= '' then
      redis.call('PEXPIREAT', counted_key, string.format('%.0f', lifetime))
    end
  end
end
redis.call('PUBLISH', log, '')
return tonumber(new_version)
