-- Deletes the locks that are held under their token, and no others.
-- KEYS: the locks. ARGV[i]: the token for KEYS[i]. Per key: 1 deleted, 0 not held under it.
-- A key of another type is not held under a token; any other error ends the call.
local released = {}
for i, key in ipairs(KEYS) do
  local holder = redis.pcall('GET', key)
  if type(holder) == 'table' and not string.find(holder.err, 'WRONGTYPE', 1, true) then return holder end
  released[i] = holder == ARGV[i] and redis.call('DEL', key) or 0
end
return released
