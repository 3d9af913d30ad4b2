-- Name those who may come at once, as there is room for them now.
-- KEYS     1 line: run -> ticket   2 expected: run -> when it was told to come, in milliseconds
--          3 holders: run -> end of its lease   4 starts: run -> when it began
-- ARGV     1 how many may run at once   2 how many may start within   3 this many milliseconds,
--          0: any number   4... runs that do not wait any more, "<run id>/<attempt>"
-- Returns  the first in the line that are told to come later, as many as there is room for
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for number = 4, #ARGV do
    redis.call("ZREM", KEYS[1], ARGV[number])
    redis.call("ZREM", KEYS[2], ARGV[number])
end
redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", now)
local room = ARGV[1] - redis.call("ZCARD", KEYS[3])
local window = tonumber(ARGV[3])
if window > 0 then
    room = math.min(room, ARGV[2] - redis.call("ZCOUNT", KEYS[4], now - window, "+inf"))
end
local called = {}
if room > 0 then
    for _, run in ipairs(redis.call("ZRANGE", KEYS[1], 0, room - 1)) do
        local at = redis.call("ZSCORE", KEYS[2], run)
        if at and tonumber(at) > now then
            redis.call("ZADD", KEYS[2], now, run)
            table.insert(called, run)
        end
    end
end
return called
