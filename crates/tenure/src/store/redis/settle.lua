-- Finds out whether a write landed whose reply was lost. If it did not, it never will.
-- KEYS: log, fence
-- ARGV: stamp of the write, milliseconds since it was sent
-- Returns its token if it landed; 0 if it did not; -1 when the log no longer tells.
local entries = redis.call('XREVRANGE', KEYS[1], '+', '-')
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
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], GRACE_MS)
return 0
