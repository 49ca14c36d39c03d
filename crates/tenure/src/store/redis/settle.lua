-- Finds out whether a write landed whose reply was lost. If it did not, it never will.
-- KEYS: record, log
-- ARGV: stamp of the write, milliseconds since it was sent
-- Returns its token if it landed; 0 if it did not; -1 when there is no telling.
local record, stamp = KEYS[1], ARGV[1]
local entries = redis.call('XREVRANGE', KEYS[2], '+', '-')
for _, entry in ipairs(entries) do
  local head = entry[2][2]
  local dash = string.find(head, '-', 1, true)
  if dash and string.sub(head, dash + 1, dash + 16) == stamp then
    return string.sub(head, 1, dash + 16)
  end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000
if #entries >= BACKLOG then
  local oldest = tonumber(string.match(entries[#entries][1], '^%d+'))
  if oldest >= now - tonumber(ARGV[2]) - 2000 then return -1 end
end
-- It may still sit in some buffer. The record remembers those that must not land, each as
-- `<stamp>@<time>;`, for as long as one could; where there is none, a hash of only this field is
-- the memory. When there are too many to remember, this one may land yet.
local old = redis.call('HMGET', record, 'version', 'fence')
local fence = old[2] or ''
if string.find(fence, stamp, 1, true) then return 0 end
local kept, count = {}, 0
for fenced, at in string.gmatch(fence, '(%x+)@(%d+);') do
  if tonumber(at) > now - GRACE_MS then
    count = count + 1
    kept[count] = fenced .. '@' .. at .. ';'
  end
end
if count >= FENCED then return -1 end
kept[count + 1] = string.format('%s@%.0f;', stamp, now)
redis.call('HSET', record, 'fence', table.concat(kept))
if not old[1] then redis.call('PEXPIRE', record, GRACE_MS) end
return 0
