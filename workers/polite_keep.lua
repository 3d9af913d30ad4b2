-- Extend the lease of a run that goes on. If Redis has forgotten it, it counts again from now on.
-- KEYS     1 holders: run -> end of its lease   2 hold: how long a run typically goes on
-- ARGV     1 the run, "<run id>/<attempt>"   2 its lease   3 for how long it goes on by now
--          4 how long what is typical is kept; all in milliseconds
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call("ZADD", KEYS[1], now + ARGV[2], ARGV[1])
if redis.call("PTTL", KEYS[1]) < tonumber(ARGV[2]) then
    redis.call("PEXPIRE", KEYS[1], ARGV[2])
end
if tonumber(redis.call("GET", KEYS[2]) or 0) < tonumber(ARGV[3]) then
    redis.call("SET", KEYS[2], ARGV[3], "PX", ARGV[4])
end
return 0
