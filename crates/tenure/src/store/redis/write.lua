-- Writes records of one partition, each with all that belongs to it, and each on its own: what is
-- wrong with one is the answer for that one.
-- KEYS: log, record...
-- ARGV: now in 16 digits; then five for each record: precondition ('' | 'absent' | 'present' | a
--   token | 'tag:' and a tag), stamp, attributes, capacity, data
-- Attributes are as in the head of a record, its field `version`, but for `k<former versions to
-- keep>` in the place of the oldest that is kept.
-- Returns for each: the new version; {} or {token, tag} when the precondition fails; FULL; an error.
local call, sub, find, format = redis.call, string.sub, string.find, string.format
local log, now = KEYS[1], tonumber(ARGV[1])

-- The last whole number that all smaller ones come before, to a double.
local LAST_VERSION = 2 ^ 53 - 1

-- What has been found out for all: that this user may publish, and may add to the log.
local told, logged

-- One message tells of all: who hears it looks at the log, and only after the script.
local function is_told()
  told = told or type(redis.pcall('PUBLISH', log, '')) ~= 'table'
  return told
end

-- Anything but the overwrite of a record with what has the same attributes.
local function place(record, at, head, fence)
  -- Deadline, whether it is counted, former versions, tag: '' stands for none.
  local function parse(attributes)
    if attributes == '' then return '', '', '', '' end
    return string.match(attributes, '^;(%d*);(1?);(k?%d*);(.*)$')
  end
  local wanted, stamp, capacity = ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  local expires_at, counts, kept, tag = parse(ARGV[at + 3])
  kept = tonumber(sub(kept, 2)) or 0
  if fence and find(fence, stamp, 1, true) then
    return redis.error_reply('FENCED the write was given up')
  end

  local token, number, created_at, attributes
  local old_expires_at, counted, oldest, old_tag = '', '', nil, ''
  if head then
    local whole = '^((%d+)%-' .. string.rep('%x', 16) .. ') (' .. string.rep('%d', 16) .. ')(.*)$'
    token, number, created_at, attributes = string.match(head, whole)
    old_expires_at, counted, oldest, old_tag = parse(attributes or '?')
    if not old_tag then return redis.error_reply('DAMAGED the version of the record') end
    number, oldest = tonumber(number), tonumber(oldest)
  end
  local live = head and (old_expires_at == '' or tonumber(old_expires_at) > now)
  if wanted ~= '' and not (wanted == 'absent' and not live)
    and not (live and (wanted == token or wanted == 'present'
      or (old_tag ~= '' and wanted == 'tag:' .. old_tag))) then
    return live and { token, old_tag } or {}
  end
  if live and number >= LAST_VERSION then
    return redis.error_reply('DAMAGED a version that has no next')
  end

  local counted_key, index = sub(log, 1, -4) .. 'counted', sub(log, 1, -4) .. 'index'
  local name = sub(record, #log + 5)
  local reclaimed
  if counts ~= '' and not (live and counted ~= '') then
    -- Only what the server has reclaimed by its own clock may leave the set: to a process whose
    -- clock is ahead, others' live records look expired.
    reclaimed = format('%.0f', tonumber(call('TIME')[1]) * 1000 - SKEW_MS)
    if call('ZCOUNT', counted_key, '(' .. ARGV[1], '+inf') >= tonumber(capacity) then
      return redis.status_reply('FULL')
    end
  end

  -- A script that is stopped keeps what it has done, so what the user may not do is found out
  -- before anything is touched.
  local denied
  local function needs(command, ...)
    if not redis.acl_check_cmd(command, ...) then denied = command end
  end
  if not logged then
    call('XLEN', log) -- Refuses a foreign log before there is anything that it should tell.
    needs('XADD', log, '*', '', '')
  end
  if not is_told() then denied = 'PUBLISH' end
  needs('HSET', record, 'data', '')
  -- Whether the keys that go by deadlines have to follow.
  local moved = not head or old_expires_at ~= expires_at or (counts ~= '' and counted == '')
  -- The last stamp is the youngest; they are kept for as long as a lost write could come.
  local at_rest = fence and tonumber(string.match(fence, '@(%d+);$')) or nil
  at_rest = at_rest and at_rest < tonumber(call('TIME')[1]) * 1000 - GRACE_MS
  if at_rest then needs('HDEL', record, 'fence') end
  if oldest or (moved and old_expires_at ~= '') then needs('HDEL', record, 'expires_at') end
  if counted ~= '' and counts == '' then needs('ZREM', counted_key, name) end
  if counts ~= '' then needs('ZADD', counted_key, '0', name) end
  if reclaimed then needs('ZREMRANGEBYSCORE', counted_key, '-inf', reclaimed) end
  -- A listing may have put the name aside. Not before the server's clock had come to the deadline.
  local unlisted = not head
    or (moved and old_expires_at ~= '' and tonumber(old_expires_at) < now + SKEW_MS)
  local lifetime, needed
  if moved then
    lifetime = call('PEXPIRETIME', index)
    if unlisted then needs('ZADD', index, '0', name) end
    -- What is to become of the partition's own keys, which changes with few writes.
    local ending
    if expires_at ~= '' then
      needs('PEXPIREAT', record, '1')
      needed = tonumber(expires_at) + SKEW_MS + GRACE_MS
      ending = lifetime ~= -1 and (lifetime < needed or counts ~= '') and 'PEXPIREAT'
    else
      if head or fence then needs('PERSIST', record) end
      ending = lifetime ~= -1 and 'PERSIST'
    end
    if ending then
      -- While the slot moves to another node, one that is not here ends the script: now or never.
      call('PEXPIRETIME', counted_key)
      needs(ending, index, '1')
      needs(ending, counted_key, '1')
      needs(ending, log, '1')
    end
  end
  if denied then return redis.error_reply('NOPERM this user may not ' .. denied) end

  -- Whatever can find foreign data under a key comes before the record is touched. And the first
  -- command to write is one that a server without memory refuses: it lets a script that has already
  -- written do as it likes.
  if not (head or fence) and call('EXISTS', record) == 1 then
    return redis.error_reply('DAMAGED a hash without a version')
  end
  if unlisted then call('ZADD', index, '0', name) end
  if counts ~= '' then
    if moved or reclaimed then
      call('ZADD', counted_key, expires_at == '' and '+inf' or expires_at, name)
    end
  elseif counted ~= '' then
    call('ZCOUNT', counted_key, '0', '0')
  end

  local version = live and number + 1 or 1
  local set, unset = { 'data', ARGV[at + 5] }, {}
  -- The replaced version moves to a field of its own; those before `first` go.
  local first
  if live and kept > 0 then
    first = math.max(version - kept, oldest or version - 1)
    set[3] = format('was:%.0f', version - 1)
    set[4] = token .. '\n' .. (old_tag == '' and '0' or '1' .. old_tag)
      .. (call('HMGET', record, 'data')[1] or '')
  end
  if oldest then
    for former = math.max(oldest, number - KEPT), math.min(number, first or number) - 1 do
      unset[#unset + 1] = format('was:%.0f', former)
    end
  end
  if at_rest then unset[#unset + 1] = 'fence' end
  if moved and expires_at ~= '' then
    set[#set + 1], set[#set + 2] = 'expires_at', expires_at
  elseif moved and old_expires_at ~= '' then
    unset[#unset + 1] = 'expires_at'
  end
  local new = format('%.0f-%s %s', version, stamp, live and created_at or ARGV[1])
  if expires_at ~= '' or counts ~= '' or first or tag ~= '' then
    first = first and format('%.0f', first) or ''
    new = table.concat({ new, expires_at, counts, first, tag }, ';')
  end
  -- The log first: it may yet refuse, and a change that it does not tell of would be lost to watches.
  call('XADD', log, 'MAXLEN', '~', LOG_LENGTH, '*', name, new)
  logged = true
  call('HSET', record, 'version', new, unpack(set))
  if unset[1] then call('HDEL', record, unpack(unset)) end
  if reclaimed then call('ZREMRANGEBYSCORE', counted_key, '-inf', reclaimed) end
  if counted ~= '' and counts == '' then call('ZREM', counted_key, name) end
  if moved then
    if expires_at ~= '' then
      call('PEXPIREAT', record, format('%.0f', tonumber(expires_at) + SKEW_MS))
    elseif head or fence then
      call('PERSIST', record)
    end
    -- The partition's own keys outlive its records, and not by much.
    -- That of the count comes last: it may have gone with the last name, which ends the script while
    -- the slot moves.
    if expires_at == '' then
      if lifetime ~= -1 then
        call('PERSIST', index)
        call('PERSIST', log)
        call('PERSIST', counted_key)
      end
    elseif lifetime ~= -1 then
      if lifetime < needed then
        local until_ms = format('%.0f', needed + GRACE_MS)
        call('PEXPIREAT', index, until_ms)
        call('PEXPIREAT', log, until_ms)
        call('PEXPIREAT', counted_key, until_ms)
      elseif counts ~= '' then
        call('PEXPIREAT', counted_key, format('%.0f', lifetime))
      end
    end
  end
  return version
end

local function write(record, at)
  local old = call('HMGET', record, 'version', 'fence')
  local head = old[1]
  if not head or old[2] then return place(record, at, head, old[2]) end
  local wanted, attributes = ARGV[at + 1], ARGV[at + 3]
  -- A token ends with 16 digits; a blank, 16 digits of `created_at` and the attributes follow.
  local dash = find(head, '-', 1, true) or 0
  local version = tonumber(sub(head, 1, dash - 1))
  local expires_at = attributes ~= '' and tonumber(string.match(attributes, '^;(%d*)'))
  if not version or version >= LAST_VERSION or #head < dash + 33 or sub(head, dash + 34) ~= attributes
    or (expires_at and expires_at <= now)
    or (wanted ~= '' and wanted ~= 'present' and wanted ~= sub(head, 1, dash + 16)) then
    return place(record, at, head)
  end
  if not is_told() then return redis.error_reply('NOPERM this user may not PUBLISH') end
  local new = format('%d-%s%s', version + 1, ARGV[at + 2], sub(head, dash + 17))
  -- The server has looked at the rights to the keys before the script began, so that the right to
  -- the command is the same for all. The log comes first, as above.
  if not logged and not redis.acl_check_cmd('HSET', record, 'version', '') then
    return redis.error_reply('NOPERM this user may not HSET')
  end
  call('XADD', log, 'MAXLEN', '~', LOG_LENGTH, '*', sub(record, #log + 5), new)
  logged = true
  call('HSET', record, 'version', new, 'data', ARGV[at + 5])
  return version + 1
end

if not KEYS[3] then return { write(KEYS[2], 1) } end
local replies, count, at = {}, #KEYS - 1, 0
local function go_on()
  while at < count do
    at = at + 1
    replies[at] = write(KEYS[at + 1], at * 5 - 4)
  end
end
while at < count do
  local done, failure = pcall(go_on)
  if not done then
    -- Redis has pcall give the text of an error, Valkey the error itself.
    replies[at] = type(failure) == 'table' and failure or redis.error_reply(failure)
  end
end
return replies
