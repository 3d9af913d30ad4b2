-- Take a seat of each lock of one run, or none; the holder's own seats are extended.
-- A lock is a sorted set: who holds a seat, scored by the end of its lease in milliseconds.
-- KEYS     the locks
-- ARGV[1]  the holder, "<run id>/<attempt>"
-- ARGV[2]  time to live in milliseconds
-- ARGV[3...]  how many seats each lock has
-- Returns  nothing if taken; else the number of the first lock that is full, and its holders
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for number, key in ipairs(KEYS) do
    redis.call("ZREMRANGEBYSCORE", key, "-inf", now)
    local mine = redis.call("ZSCORE", key, ARGV[1])
    if not mine and redis.call("ZCARD", key) >= tonumber(ARGV[2 + number]) then
        return {number, unpack(redis.call("ZRANGE", key, 0, -1))}
    end
end
for _, key in ipairs(KEYS) do
    redis.call("ZADD", key, now + ARGV[2], ARGV[1])
    -- The longest lease decides: another holder's may be longer than ours.
    if redis.call("PTTL", key) < tonumber(ARGV[2]) then
        redis.call("PEXPIRE", key, ARGV[2])
    end
end
return {}
