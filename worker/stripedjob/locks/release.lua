-- Deletes the locks that are held under their token, and no others.
-- KEYS: the locks. ARGV[i]: the token for KEYS[i]. Per key: 1 deleted, 0 not held under it.
-- A key of another type is not held under a token; any error ends the call. A thousand at a time: Lua's stack has an end.
local released = {}
for from = 1, #KEYS, 1000 do
  local to = math.min(from + 999, #KEYS)
  local holders = redis.call('MGET', unpack(KEYS, from, to))
  local own = {}
  for i = from, to do
    released[i] = holders[i - from + 1] == ARGV[i] and 1 or 0
    if released[i] == 1 then own[#own + 1] = KEYS[i] end
  end
  if #own > 0 then redis.call('DEL', unpack(own)) end
end
return released
