-- Puts a user's record in the place of another, if that is what is there, as one atomic step.
--
-- KEYS: the record. ARGV: what must be there, or '' for nothing; what is to be there, or '' for nothing; how long it is
-- kept, in seconds.
--
-- Returns { 'done' }, or { 'other', what is there or '' }.

local old, new, life = unpack(ARGV)
local there = redis.call('GET', KEYS[1]) or ''
if there ~= old then return { 'other', there } end
if new == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], new, 'EX', life)
end
return { 'done' }
