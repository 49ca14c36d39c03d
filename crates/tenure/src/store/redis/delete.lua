-- Deletes one record with all that belongs to it.
-- KEYS: record, log
-- ARGV: now, precondition (as in write.lua), stamp of this delete, name
-- Returns 1 or 0: whether there was a record; {} or {token, tag} when the precondition fails.
local call, record, log = redis.call, KEYS[1], KEYS[2]
local wanted, stamp, name = ARGV[2], ARGV[3], ARGV[4]

local old = call('HMGET', record, 'version', 'fence')
local head, fence = old[1], old[2]
if fence and string.find(fence, stamp, 1, true) then
  return redis.error_reply('FENCED the delete was given up')
end

local token, expires_at, counted, tag
if head then
  token = string.match(head, '^%d+%-%x+') or ''
  expires_at, counted, tag = string.match(head, ';(%d*);(1?);%d*;(.*)$', #token + 18)
end
tag = tag or ''
local live = head and ((expires_at or '') == '' or tonumber(expires_at) > tonumber(ARGV[1]))
if wanted ~= '' and not (wanted == 'absent' and not live)
  and not (live and (wanted == token or wanted == 'present'
    or (tag ~= '' and wanted == 'tag:' .. tag))) then
  return live and { token, tag } or {}
end
-- An expired one stays for the server to reclaim: our clock may be ahead of the others'.
if not live then return 0 end

local base = string.sub(log, 1, -4)
call('XLEN', log) -- Refuses a foreign log before anything is touched, as does what follows a user.
-- While the slot moves to another node, a key that is not here ends the script: now or never.
call('PEXPIRETIME', base .. 'counted')
-- So is one that comes back: the record, deleted, would not take its fence again.
if fence then call('EXISTS', base .. 'nothing') end
local listed = call('ZCARD', base .. 'index')
local denied
local function needs(command, ...)
  if not redis.acl_check_cmd(command, ...) then denied = command end
end
local told = redis.pcall('PUBLISH', log, '')
if type(told) == 'table' then denied = 'PUBLISH' end
needs('ZREM', base .. 'index', name)
needs('ZREM', base .. 'counted', name)
needs('DEL', record)
needs('HSET', record, 'fence', '')
needs('XADD', log, '*', '', '')
needs('PEXPIRE', record, '1')
needs('PEXPIRE', log, '1')
if denied then return redis.error_reply('NOPERM this user may not ' .. denied) end
listed = listed - call('ZREM', base .. 'index', name)
if counted == '1' then call('ZREM', base .. 'counted', name) end
call('DEL', record)
if fence then
  call('HSET', record, 'fence', fence)
  call('PEXPIRE', record, GRACE_MS)
end
-- Version 0 says gone. After the DEL, because a server without memory refuses what adds first.
call('XADD', log, 'MAXLEN', '~', LOG_LENGTH, '*', name, '0-' .. stamp)
if listed == 0 then call('PEXPIRE', log, GRACE_MS) end
return 1
