-- Takes the locks that are free or already held under the same token; the others are left alone.
-- KEYS: the locks. ARGV[1]: time to live in ms. ARGV[i + 1]: the token for KEYS[i]. Per key: 0 granted, else the ms for
-- which the holder keeps it (without expiry: the time to live). A key of another type has one, too; other errors end the call.
local waits = {}
for i, key in ipairs(KEYS) do
  local token = ARGV[i + 1]
  waits[i] = 0
  if not redis.call('SET', key, token, 'NX', 'PX', ARGV[1]) then
    local holder = redis.pcall('GET', key)
    if type(holder) == 'table' and not string.find(holder.err, 'WRONGTYPE', 1, true) then return holder end
    if holder == token then
      redis.call('SET', key, token, 'PX', ARGV[1])
    else
      local left = redis.call('PTTL', key)
      waits[i] = left < 0 and tonumber(ARGV[1]) or math.max(left, 1)
    end
  end
end
return waits
