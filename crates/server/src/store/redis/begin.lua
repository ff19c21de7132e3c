-- Finds out what the memories are called, and begins new ones where what they knew may be lost.
--
-- KEYS: the memory, its log. ARGV: a name for a memory of proofs and one for a memory of revocations, should
-- they be needed; what revocations survive; the memory of revocations that the caller knows, and how many it
-- has seen there; 'forgotten' if the caller knows that something may be.
--
-- Returns { 'ok', name of proofs, name of revocations, count of revocations }, or what is wrong with this
-- server.

local memory, log = KEYS[1], KEYS[2]
local proofs, revocations, survives, seen_in, seen, forgotten = unpack(ARGV)

local info = redis.call('INFO', 'server', 'replication', 'memory')
local version = string.match(info, 'redis_version:(%d+)')
-- Before 7 a replica had the scripts of its primary, and a dump of the data held them.
if tonumber(version) < 7 then return { 'old' } end
if string.match(info, 'role:(%a+)') ~= 'master' then return { 'replica' } end
if string.match(info, 'maxmemory_policy:([%a-]+)') ~= 'noeviction' then return { 'evicts' } end

local run = string.match(info, 'run_id:(%x+)')
local known = redis.call('HMGET', memory, 'run', 'proofs', 'revocations', 'count')
local count = tonumber(known[4] or '0')
local is_lost = forgotten == 'forgotten' or (known[3] == seen_in and count < tonumber(seen))

-- Another process than the one that has remembered: the last proofs that it knew may not have come here.
if known[1] == run and not is_lost then
  return { 'ok', known[2], known[3], tostring(count) }
end
if known[3] and survives == 'more' and not is_lost then
  revocations = known[3]
else
  redis.call('DEL', log)
end
redis.call('HSET', memory, 'run', run, 'proofs', proofs, 'revocations', revocations)
return { 'ok', proofs, revocations, tostring(count) }
