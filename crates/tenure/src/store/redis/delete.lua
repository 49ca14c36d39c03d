-- Deletes one record with all that belongs to it.
-- KEYS: record, index, counted, log, fence
-- ARGV: now, precondition ('' | 'absent' | 'present' | a token), stamp of this delete, name
-- Returns 1 or 0: whether there was a record; {} or {token} when the precondition fails.
local record, index, counted_key, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local wanted, stamp, name = ARGV[2], ARGV[3], ARGV[4]

local old = redis.call('HMGET', record, 'version', 'stamp', 'expires_at', 'counted')
local version, expires_at = old[1], old[3]
if version and not (tonumber(version) and old[2] and (expires_at == '' or tonumber(expires_at))) then
  return redis.error_reply('DAMAGED the fields of the record')
end
if redis.call('EXISTS', KEYS[5]) == 1 and redis.call('SISMEMBER', KEYS[5], stamp) == 1 then
  return redis.error_reply('FENCED the delete was given up')
end

local live = version and (expires_at == '' or tonumber(expires_at) > tonumber(ARGV[1]))
if wanted ~= '' then
  local token = live and version .. '-' .. old[2]
  if (wanted == 'absent' and live) or (wanted == 'present' and not live)
    or (wanted ~= 'absent' and wanted ~= 'present' and wanted ~= token) then
    return live and { token } or {}
  end
end
-- An expired one stays for the server to reclaim: our clock may be ahead of the others'.
if not live then return 0 end

redis.call('XLEN', log) -- Refuses a foreign log before anything is touched.
redis.call('ZREM', index, name)
if old[4] == '1' then redis.call('ZREM', counted_key, name) end
redis.call('DEL', record)
-- Version 0 says gone. After the DEL, because a server without memory refuses what adds first.
redis.call('XADD', log, 'MAXLEN', '~', BACKLOG, '*',
  'name', name, 'token', '0-' .. stamp, 'expires_at', '')
if redis.call('EXISTS', index) == 0 then redis.call('PEXPIRE', log, GRACE_MS) end
redis.call('PUBLISH', log, '')
return 1
