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
local told, logged, overwritten, forgotten

-- One message tells of all: who hears it looks at the log, and only after the script. Tells whether
-- the user may publish.
local function publish_once()
  told = told or type(redis.pcall('PUBLISH', log, '')) ~= 'table'
  return told
end

-- Deadline, whether it is counted, oldest version that is kept, tag: '' stands for none.
local function parse_attributes(attributes)
  if attributes == '' then return '', '', '', '' end
  return string.match(attributes, '^;(%d*);(1?);(k?%d*);(.*)$')
end

-- What a head says of its record. Nothing, if it is damaged.
local function parse_head(head)
  local whole = '^((%d+)%-' .. string.rep('%x', 16) .. ') (' .. string.rep('%d', 16) .. ')(.*)$'
  local token, number, created_at, attributes = string.match(head, whole)
  local expires_at, counted, oldest, tag = parse_attributes(attributes or '?')
  if not tag then return nil end
  return {
    token = token, number = tonumber(number), created_at = created_at,
    expires_at = expires_at, counted = counted, oldest = tonumber(oldest), tag = tag,
  }
end

local function holds(wanted, live)
  if wanted == '' then return true end
  if not live then return wanted == 'absent' end
  return wanted == live.token or wanted == 'present'
    or (live.tag ~= '' and wanted == 'tag:' .. live.tag)
end

-- What a write is about, and what it finds. Instead, the answer that refuses it.
local function examine(record, at, head, fence)
  local stamp = ARGV[at + 2]
  local expires_at, counts, kept, tag = parse_attributes(ARGV[at + 3])
  if fence and find(fence, stamp, 1, true) then
    return nil, redis.error_reply('FENCED the write was given up')
  end
  -- Without a record: as one that has never been, and nothing of it.
  local old = head and parse_head(head) or { expires_at = '', counted = '', tag = '' }
  if head and not old.token then
    return nil, redis.error_reply('DAMAGED the version of the record')
  end
  local live = head and (old.expires_at == '' or tonumber(old.expires_at) > now) and old
  if not holds(ARGV[at + 1], live) then
    return nil, live and { old.token, old.tag } or {}
  end
  if live and old.number >= LAST_VERSION then
    return nil, redis.error_reply('DAMAGED a version that has no next')
  end
  local partition = sub(log, 1, -4)
  local it = {
    record = record, name = sub(record, #log + 5), head = head, fence = fence, old = old, live = live,
    stamp = stamp, data = ARGV[at + 5], expires_at = expires_at, counts = counts ~= '', tag = tag,
    kept = tonumber(sub(kept, 2)) or 0,
    index_key = partition .. 'index', counted_key = partition .. 'counted',
  }
  if it.counts and not (live and old.counted ~= '') then
    -- Only what the server has reclaimed by its own clock may leave the set: to a process whose
    -- clock is ahead, others' live records look expired.
    it.reclaimed = format('%.0f', tonumber(call('TIME')[1]) * 1000 - SKEW_MS)
    if call('ZCOUNT', it.counted_key, '(' .. ARGV[1], '+inf') >= tonumber(ARGV[at + 4]) then
      return nil, redis.status_reply('FULL')
    end
  end
  -- Whether the keys that go by deadlines have to follow.
  it.moved = not head or old.expires_at ~= expires_at or (it.counts and old.counted == '')
  -- A listing may have put the name aside. Not before the server's clock had come to the deadline.
  it.unlisted = not head
    or (it.moved and old.expires_at ~= '' and tonumber(old.expires_at) < now + SKEW_MS)
  -- The last stamp is the youngest; they are kept for as long as a lost write could come.
  local at_rest = fence and tonumber(string.match(fence, '@(%d+);$')) or nil
  it.at_rest = at_rest and at_rest < tonumber(call('TIME')[1]) * 1000 - GRACE_MS
  return it
end

-- The command that the user may not use, if there is one. A script that is stopped keeps what it has
-- done, so this is found out before anything is touched.
local function missing_right(it)
  local denied
  local function needs(command, ...)
    if not redis.acl_check_cmd(command, ...) then denied = command end
  end
  local record, old = it.record, it.old
  if not logged then
    call('XLEN', log) -- Refuses a foreign log before there is anything that it should tell.
    needs('XADD', log, '*', '', '')
  end
  if not publish_once() then denied = 'PUBLISH' end
  needs('HSET', record, 'data', '')
  if it.at_rest then needs('HDEL', record, 'fence') end
  if old.oldest or (it.moved and old.expires_at ~= '') then needs('HDEL', record, 'expires_at') end
  if old.counted ~= '' and not it.counts then needs('ZREM', it.counted_key, it.name) end
  if it.counts then needs('ZADD', it.counted_key, '0', it.name) end
  if it.reclaimed then needs('ZREMRANGEBYSCORE', it.counted_key, '-inf', it.reclaimed) end
  if not it.moved then return denied end
  it.lifetime = call('PEXPIRETIME', it.index_key)
  if it.unlisted then needs('ZADD', it.index_key, '0', it.name) end
  -- What is to become of the partition's own keys, which changes with few writes.
  local ending
  if it.expires_at ~= '' then
    needs('PEXPIREAT', record, '1')
    it.needed = tonumber(it.expires_at) + SKEW_MS + GRACE_MS
    ending = it.lifetime ~= -1 and (it.lifetime < it.needed or it.counts) and 'PEXPIREAT'
  else
    if it.head or it.fence then needs('PERSIST', record) end
    ending = it.lifetime ~= -1 and 'PERSIST'
  end
  if ending then
    -- While the slot moves to another node, one that is not here ends the script: now or never.
    call('PEXPIRETIME', it.counted_key)
    needs(ending, it.index_key, '1')
    needs(ending, it.counted_key, '1')
    needs(ending, log, '1')
  end
  return denied
end

-- The fields of the record that a write sets and those that it takes away, and the new head.
local function fields(it)
  local old, live = it.old, it.live
  local version = live and old.number + 1 or 1
  local set, unset = { 'data', it.data }, {}
  -- The replaced version moves to a field of its own; those before `first` go.
  local first
  if live and it.kept > 0 then
    first = math.max(version - it.kept, old.oldest or version - 1)
    set[3] = format('was:%.0f', version - 1)
    set[4] = old.token .. '\n' .. (old.tag == '' and '0' or '1' .. old.tag)
      .. (call('HMGET', it.record, 'data')[1] or '')
  end
  if old.oldest then
    local last = math.min(old.number, first or old.number) - 1
    for former = math.max(old.oldest, old.number - KEPT), last do
      unset[#unset + 1] = format('was:%.0f', former)
    end
  end
  if it.at_rest then unset[#unset + 1] = 'fence' end
  if it.moved and it.expires_at ~= '' then
    set[#set + 1], set[#set + 2] = 'expires_at', it.expires_at
  elseif it.moved and old.expires_at ~= '' then
    unset[#unset + 1] = 'expires_at'
  end
  local new = format('%.0f-%s %s', version, it.stamp, live and old.created_at or ARGV[1])
  if it.expires_at ~= '' or it.counts or first or it.tag ~= '' then
    first = first and format('%.0f', first) or ''
    new = table.concat({ new, it.expires_at, it.counts and '1' or '', first, it.tag }, ';')
  end
  return version, new, set, unset
end

-- The record's own deadline, and those of the partition's own keys, which outlive its records, and
-- not by much. That of the count comes last: it may have gone with the last name, which ends the
-- script while the slot moves.
local function follow_deadline(it)
  if it.expires_at ~= '' then
    call('PEXPIREAT', it.record, format('%.0f', tonumber(it.expires_at) + SKEW_MS))
  elseif it.head or it.fence then
    call('PERSIST', it.record)
  end
  if it.lifetime == -1 then return end
  if it.expires_at == '' then
    call('PERSIST', it.index_key)
    call('PERSIST', log)
    call('PERSIST', it.counted_key)
  elseif it.lifetime < it.needed then
    local until_ms = format('%.0f', it.needed + GRACE_MS)
    call('PEXPIREAT', it.index_key, until_ms)
    call('PEXPIREAT', log, until_ms)
    call('PEXPIREAT', it.counted_key, until_ms)
  elseif it.counts then
    call('PEXPIREAT', it.counted_key, format('%.0f', it.lifetime))
  end
end

-- Anything but the overwrite of a record with what has the same attributes.
local function write_any(record, at, head, fence)
  local it, refusal = examine(record, at, head, fence)
  if not it then return refusal end
  local denied = missing_right(it)
  if denied then return redis.error_reply('NOPERM this user may not ' .. denied) end
  local old = it.old
  -- Whatever can find foreign data under a key comes before the record is touched. And the first
  -- command to write is one that a server without memory refuses: it lets a script that has already
  -- written do as it likes.
  if not (head or fence) and call('EXISTS', record) == 1 then
    return redis.error_reply('DAMAGED a hash without a version')
  end
  if it.unlisted then call('ZADD', it.index_key, '0', it.name) end
  if it.counts then
    if it.moved or it.reclaimed then
      call('ZADD', it.counted_key, it.expires_at == '' and '+inf' or it.expires_at, it.name)
    end
  elseif old.counted ~= '' then
    call('ZCOUNT', it.counted_key, '0', '0')
  end
  local version, new, set, unset = fields(it)
  -- The log first: it may yet refuse, and a change that it does not tell of would be lost to watches.
  call('XADD', log, 'MAXLEN', '~', LOG_LENGTH, '*', it.name, new)
  logged = true
  call('HSET', record, 'version', new, unpack(set))
  if unset[1] then call('HDEL', record, unpack(unset)) end
  if it.reclaimed then call('ZREMRANGEBYSCORE', it.counted_key, '-inf', it.reclaimed) end
  if old.counted ~= '' and not it.counts then call('ZREM', it.counted_key, it.name) end
  if it.moved then follow_deadline(it) end
  return version
end

-- Where the dash in the token of a head is, and its version. Nothing, if the head is not sound or has
-- no next version.
local function cut(head)
  -- After the dash 16 digits; then a blank and `created_at` in 16 digits, before the attributes.
  local _, last = find(head, '^%d+%-%x+ %d+')
  local dash = last and last - 33 or 0
  local version = tonumber(sub(head, 1, dash - 1))
  if not version or version >= LAST_VERSION or sub(head, dash, dash) ~= '-'
    or sub(head, dash + 17, dash + 17) ~= ' ' then return nil end
  return dash, version
end

local function is_over(attributes)
  local expires_at = tonumber(string.match(attributes, '^;(%d*)'))
  return expires_at and expires_at <= now
end

-- Whether the user may do what an overwrite does, or the answer that says what not. The server has
-- looked at the rights to the keys before the script began, so that the right to a command is the
-- same for all.
local function refuse_overwrite(record)
  if not publish_once() then return redis.error_reply('NOPERM this user may not PUBLISH') end
  if not redis.acl_check_cmd('HSET', record, 'version', '') then
    return redis.error_reply('NOPERM this user may not HSET')
  end
end

-- The overwrite of a record with what has the same attributes, and keeps no former version.
local function overwrite(record, at, head)
  local wanted, attributes = ARGV[at + 1], ARGV[at + 3]
  local dash, version = cut(head)
  if not dash or sub(head, dash + 34) ~= attributes or (attributes ~= '' and is_over(attributes))
    or (wanted ~= '' and wanted ~= 'present' and wanted ~= sub(head, 1, dash + 16)) then
    return write_any(record, at, head)
  end
  local refusal = not overwritten and refuse_overwrite(record)
  if refusal then return refusal end
  -- Joined, not formatted: to format a text ends it at a zero byte, which a tag may have.
  local new = format('%d-', version + 1) .. ARGV[at + 2] .. sub(head, dash + 17)
  -- The log first, as above.
  call('XADD', log, 'MAXLEN', '~', LOG_LENGTH, '*', sub(record, #log + 5), new)
  logged, overwritten = true, true
  call('HSET', record, 'version', new, 'data', ARGV[at + 5])
  return version + 1
end

-- The overwrite of a record that keeps its former versions: the replaced one moves to a field of its
-- own, and at most one goes.
local function overwrite_keeping(record, at, head, data, terms, kept, tag)
  local dash, version = cut(head)
  if not dash or not data or is_over(terms) then return write_any(record, at, head) end
  local token = sub(head, 1, dash + 16)
  local old_terms, oldest, old_tag = string.match(sub(head, dash + 34), '^(;%d*;1?;)(%d*);(.*)$')
  oldest = tonumber(oldest) or version
  local first = math.max(version + 1 - kept, oldest)
  if old_terms ~= terms or first > oldest + 1
    or not holds(ARGV[at + 1], { token = token, tag = old_tag }) then
    return write_any(record, at, head)
  end
  local refusal = not overwritten and refuse_overwrite(record)
  if refusal then return refusal end
  if first > oldest and not forgotten and not redis.acl_check_cmd('HDEL', record, '') then
    return redis.error_reply('NOPERM this user may not HDEL')
  end
  local new = format('%d-', version + 1) .. ARGV[at + 2] .. sub(head, dash + 17, dash + 33)
    .. terms .. format('%.0f;', first) .. tag
  call('XADD', log, 'MAXLEN', '~', LOG_LENGTH, '*', sub(record, #log + 5), new)
  logged, overwritten = true, true
  call('HSET', record, 'version', new, 'data', ARGV[at + 5], format('was:%d', version),
    token .. (old_tag == '' and '\n0' or '\n1') .. old_tag .. data)
  if first > oldest then
    call('HDEL', record, format('was:%d', oldest))
    forgotten = true
  end
  return version + 1
end

local function write(record, at)
  local attributes, terms, kept, tag = ARGV[at + 3]
  if attributes ~= '' then
    terms, kept, tag = string.match(attributes, '^(;%d*;1?;)k(%d+);(.*)$')
  end
  local old
  if terms then
    old = call('HMGET', record, 'version', 'fence', 'data')
  else
    old = call('HMGET', record, 'version', 'fence')
  end
  local head, fence = old[1], old[2]
  if not head or fence then return write_any(record, at, head, fence) end
  if not terms then return overwrite(record, at, head) end
  return overwrite_keeping(record, at, head, old[3], terms, tonumber(kept), tag)
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
