-- Give up the locks that the holder has; those of others stay.
-- KEYS     the locks
-- ARGV[1]  the holder, "<run id>/<attempt>"
-- Returns  how many were given up
local released = 0
for _, key in ipairs(KEYS) do
    if redis.call("GET", key) == ARGV[1] then
        released = released + redis.call("DEL", key)
    end
end
return released
