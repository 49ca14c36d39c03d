-- Tells the position of a partition's last change, and makes one if it has none.
-- KEYS: log
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last[1] then return last[1][1] end
local id = redis.call('XADD', KEYS[1], '*', '', '')
redis.call('PEXPIRE', KEYS[1], GRACE_MS)
return id
