-- Puts a record in the place of the one that is known, and returns 1; or 0, if another one is there.
--
-- KEYS: the record. Its first eight bytes are its version. ARGV: the version that is known or '', the next record,
-- until when it is kept, in seconds since 1970.

if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EXAT', ARGV[3])
return 1
