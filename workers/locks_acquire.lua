-- Take the locks of one run, all or none; a lock that the holder has is extended.
-- KEYS     the locks
-- ARGV[1]  the holder, "<run id>/<attempt>"
-- ARGV[2]  time to live in milliseconds
-- Returns  nothing if taken; else the number of the first lock that is held, and its holder
for number, key in ipairs(KEYS) do
    local holder = redis.call("GET", key)
    if holder and holder ~= ARGV[1] then
        return {number, holder}
    end
end
for _, key in ipairs(KEYS) do
    redis.call("SET", key, ARGV[1], "PX", ARGV[2])
end
return {}
