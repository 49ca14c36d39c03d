-- Tells what changed after a position.
-- KEYS: log
-- ARGV: position
-- Returns {0, entry...}, or {1, position} when changes may have been missed: the entry at the
-- position is gone, or there are more than the backlog promises. {2, position} when the whole log
-- was gone, as that of a partition is which has long been empty, and begins here.
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', BACKLOG + 1)
if entries[1] and entries[1][1] == ARGV[1] and #entries <= BACKLOG then
  if #entries == 1 then
    -- Nothing new. What is watched does not end; renewed now and then, since that is a write.
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and left < GRACE_MS / 2 then redis.pcall('PEXPIRE', KEYS[1], GRACE_MS) end
  end
  entries[1] = 0
  return entries
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last[1] then return { 1, last[1][1] } end
local id = redis.call('XADD', KEYS[1], '*', '', '')
redis.call('PEXPIRE', KEYS[1], GRACE_MS)
return { 2, id }
