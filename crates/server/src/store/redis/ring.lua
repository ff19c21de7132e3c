-- Looks at the ring, changes it if that is asked for, and returns { 'ok', its keys in the order in which they came },
-- or what is wrong.
--
-- KEYS: the ring, a list. Each of its keys begins with a byte that is its name. ARGV: the caller's time or '', how
-- far that may be from this server's, the name of the last key that the caller knows or '', a further key or '',
-- then the names of those whose time is over.

local ring = KEYS[1]
local now, max_skew, after, further = unpack(ARGV, 1, 4)

if string.match(redis.call('INFO', 'replication'), 'role:(%a+)') ~= 'master' then return { 'replica' } end
if now ~= '' and math.abs(tonumber(redis.call('TIME')[1]) - tonumber(now)) > tonumber(max_skew) then
  return { 'clock' }
end

local function name(key) return tostring(string.byte(key)) end

local keys = redis.call('LRANGE', ring, 0, -1)
local last = keys[#keys]
-- Else others were faster, and theirs will do.
if further ~= '' and (last and name(last) or '') == after then redis.call('RPUSH', ring, further) end
for place = 5, #ARGV do
  for _, key in ipairs(keys) do
    if name(key) == ARGV[place] then redis.call('LREM', ring, 0, key) end
  end
end
return { 'ok', unpack(redis.call('LRANGE', ring, 0, -1)) }
