-- Finds out whether a write landed whose reply was lost. If it did not, it never will.
-- KEYS: record, log
-- ARGV: stamp of the write, milliseconds since it was sent
-- Returns its token if it landed; 0 if it did not; -1 when the log no longer tells.
local entries = redis.call('XREVRANGE', KEYS[2], '+', '-')
for _, entry in ipairs(entries) do
  local token = entry[2][4]
  if string.sub(token, -16) == ARGV[1] then return token end
end
if #entries >= BACKLOG then
  local time = redis.call('TIME')
  local sent = tonumber(time[1]) * 1000 - tonumber(ARGV[2]) - 2000
  local oldest = tonumber(string.match(entries[#entries][1], '^%d+'))
  if oldest >= sent then return -1 end
end
-- It may still sit in some buffer. The record remembers the last few that must not land; where
-- there is none, a hash of only this field is the memory, for a while.
local old = redis.call('HMGET', KEYS[1], 'version', 'fence')
redis.call('HSET', KEYS[1], 'fence', ARGV[1] .. string.sub(old[2] or '', 1, 16 * 15))
if not old[1] then redis.call('PEXPIRE', KEYS[1], GRACE_MS) end
return 0
