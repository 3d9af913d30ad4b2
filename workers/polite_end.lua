-- Free the place of a run that has ended, and remember how long it had it; or, if its start came
-- to nothing, forget the start as well, and let the run be the next of its lane.
-- KEYS     1 missed: run that did not come -> ticket   2 holders: run -> end of its lease
--          3 starts: run -> when it began   4 hold: how long a run typically goes on
-- ARGV     1 the run, "<run id>/<attempt>"   2 its lane   3 how long it had its place, -1: its
--          start came to nothing   4 how long tickets are kept   5 how long what is typical is
--          kept; all times in milliseconds
redis.call("ZREM", KEYS[2], ARGV[1])
if tonumber(ARGV[3]) < 0 then
    redis.call("ZREM", KEYS[3], ARGV[1])
    redis.call("ZADD", KEYS[1], string.format("%.0f", ARGV[2] * 4e12), ARGV[1])
    redis.call("PEXPIRE", KEYS[1], ARGV[4])
else
    local known = tonumber(redis.call("GET", KEYS[4]) or ARGV[3])
    redis.call("SET", KEYS[4], math.floor(0.8 * known + 0.2 * ARGV[3]), "PX", ARGV[5])
end
return 0
