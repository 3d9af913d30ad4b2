-- Give up the seats that the holders have; those of others stay.
-- KEYS     the locks
-- ARGV     the holders, "<run id>/<attempt>"
-- Returns  how many seats were given up
local released = 0
for _, key in ipairs(KEYS) do
    released = released + redis.call("ZREM", key, unpack(ARGV))
end
return released
