-- One step of the store's, as one atomic one of the server's.
--
-- Before this text stand `name`, what its memory of proofs is called, `max_skew` and `most_news`. So every memory
-- has a script of its own, which lives in one process of the server and in no dump, no replica and no file. A
-- server that was restarted or promoted does not know it, and says so in the same round trip.
--
-- All keys have one hash tag. Those that are named only in the data (the session that took another's place)
-- are made here.
--
-- KEYS: the memory, its log, then the step's own. ARGV: the step, 'first' where this text is loaded, the
-- caller's time or '', then the step's own.

local memory, log = KEYS[1], KEYS[2]
local step, first, now = ARGV[1], ARGV[2], ARGV[3]

local known = redis.call('HMGET', memory, 'proofs', 'run')
if known[1] ~= name then return { 'other' } end
if first == 'first' then
  -- The name was read before this text was sent: this may be another process by now.
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  if known[2] ~= run then return { 'other' } end
end
local time = tonumber(redis.call('TIME')[1])
-- How much longer than asked for proofs are remembered makes up for this.
if now ~= '' and math.abs(time - tonumber(now)) > max_skew then return { 'clock', tostring(time) } end

-- For the steps that ask for a session. KEYS: 3 its own, 4 its device's, 5 its user's, 6 its user's login's.
-- ARGV: 4 its login or ''.
local function is_before(key)
  if ARGV[4] == '' then return false end
  local before = redis.call('GET', key)
  return before and tonumber(ARGV[4]) <= tonumber(before)
end

local function has_ended()
  return redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 or is_before(KEYS[5])
end

local function note(what)
  local count = redis.call('HINCRBY', memory, 'count', 1)
  redis.call('XADD', log, 'MAXLEN', '~', 4096, count .. '-0', 'ended', what)
end

-- For the steps that end sessions. ARGV: 4 how long that is remembered, in seconds; 5 before a session's key;
-- 6 how many sessions their owner may have ended, or ''. KEYS: 3 the count of those.
local function finish(id)
  local key = ARGV[5] .. id
  if redis.call('EXISTS', key) == 1 then
    redis.call('EXPIRE', key, ARGV[4], 'GT')
    return true
  end
  if ARGV[6] ~= '' then
    local owned = tonumber(redis.call('GET', KEYS[3]) or '0')
    if owned >= tonumber(ARGV[6]) then return false end
    redis.call('INCR', KEYS[3])
    if owned == 0 then redis.call('EXPIRE', KEYS[3], ARGV[4]) end
  end
  redis.call('SET', key, '', 'EX', ARGV[4])
  note('s' .. id)
  return true
end

-- Who has the place of a session that has ended. All that stood on the way know it afterwards.
local function place_of(id)
  local way, last = {}, nil
  while #way < 10000 do
    local heir = redis.call('GET', ARGV[5] .. id)
    if not heir or heir == '' then break end
    way[#way + 1] = id
    id, last = heir, heir
  end
  for at = 1, #way - 1 do
    redis.call('SET', ARGV[5] .. way[at], last, 'KEEPTTL')
  end
  return last
end

local function ending(id)
  local last = place_of(id)
  if last then return { 'replaced', last } end
  return { 'done' }
end

-- KEYS: 7 what sessions have sent lately, 8 what unconfirmed ones have, 9 and on the proofs: the first is where
-- this one goes. ARGV: 5 the proof, 6 how long it is remembered, 7 the session, 8 how much one may send, 9 how
-- much all unconfirmed ones may, or ''.
if step == 'check' then
  if has_ended() then return { 'revoked' } end
  local proof, life, session, quota, room = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
  for at = 9, #KEYS do
    if redis.call('SISMEMBER', KEYS[at], proof) == 1 then return { 'replayed' } end
  end
  if tonumber(redis.call('HGET', KEYS[7], session) or '0') >= tonumber(quota) then return { 'quota' } end
  if room ~= '' then
    if tonumber(redis.call('GET', KEYS[8]) or '0') >= tonumber(room) then return { 'full' } end
    redis.call('INCR', KEYS[8])
    redis.call('EXPIRE', KEYS[8], life)
  end
  redis.call('SADD', KEYS[9], proof)
  redis.call('EXPIRE', KEYS[9], life)
  redis.call('HINCRBY', KEYS[7], session, 1)
  redis.call('EXPIRE', KEYS[7], life)
  return { is_before(KEYS[6]) and 'step up' or 'fresh' }
end

if step == 'look' then
  return { has_ended() and 'revoked' or 'alive' }
end

-- ARGV: 7 the session.
if step == 'end' then
  local id = ARGV[7]
  if not finish(id) then return { 'quota' } end
  local last = place_of(id)
  if last and not finish(last) then return { 'quota' } end
  return ending(id)
end

-- ARGV: 7 the session, 8 the one that takes its place.
if step == 'replace' then
  local old, new = ARGV[7], ARGV[8]
  if redis.call('EXISTS', ARGV[5] .. old) == 0 then
    if not finish(old) then return { 'quota' } end
    redis.call('SET', ARGV[5] .. old, new, 'KEEPTTL')
  end
  return ending(old)
end

-- All of a device or of a user, or what a user's logins are worth. KEYS: 3 its key. ARGV: 4 how long that is remembered; 5 up to which login; 6 what
-- is noted.
if step == 'end all' then
  local before = tonumber(redis.call('GET', KEYS[3]) or '0')
  local life = math.max(redis.call('TTL', KEYS[3]), tonumber(ARGV[4]))
  redis.call('SET', KEYS[3], string.format('%d', math.max(before, tonumber(ARGV[5]))), 'EX', string.format('%d', life))
  note(ARGV[6])
  return { 'done' }
end

-- What has ended since, and how the server is. ARGV: 4 how many are known.
if step == 'news' then
  local news = {
    'news',
    string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%a-]+)'),
    tostring(time),
    redis.call('HGET', memory, 'count') or '0',
  }
  for _, entry in ipairs(redis.call('XRANGE', log, '(' .. ARGV[4] .. '-0', '+', 'COUNT', most_news)) do
    news[#news + 1] = entry[2][2]
  end
  return news
end

return redis.error_reply('BULLA no such step')
