-- Let a run begin now, or give it a place in the line and say when to come again.
-- A run's wait is what those ahead of it need: each is told a time of its own, and then finds the
-- door open. Who is late no longer holds up those behind, but keeps its ticket.
-- KEYS     1 line: run -> ticket   2 expected: run -> when it was told to come, in milliseconds
--          3 missed: run that did not come -> ticket   4 holders: run -> end of its lease
--          5 starts: run -> when it began   6 hold: how long a run typically goes on
-- ARGV     1 the run, "<run id>/<attempt>"   2 its lane   3 the lease of a holder
--          4 how many may run at once, 0: any number
--          5 how many may start within   6 this time, 0: any number
--          7 how late a run may come   8 the longest wait for a holder's end   9 for starts
--          10 how long tickets are kept; all times in milliseconds
-- Returns  0: it begins; else in how many milliseconds it is to come again
local line, expected, missed, holders, starts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local run, lane, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local at_once, burst, window = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local patience = tonumber(ARGV[7])
local longest_for_place, longest_for_start = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function live_at_least(key, span)
    if redis.call("PTTL", key) < span then
        redis.call("PEXPIRE", key, span)
    end
end

redis.call("ZREMRANGEBYSCORE", holders, "-inf", now)
if redis.call("ZSCORE", holders, run) then
    return 0  -- its message was delivered twice
end

-- Some of them at a time: Redis does nothing else meanwhile.
local late = redis.call("ZRANGEBYSCORE", expected, "-inf", now - patience, "LIMIT", 0, 1000)
if #late > 0 then
    for _, other in ipairs(late) do
        -- Without a ticket it gets a new one, of its lane, when it comes.
        local ticket = redis.call("ZSCORE", line, other)
        if ticket then
            redis.call("ZADD", missed, ticket, other)
        end
    end
    redis.call("ZREM", line, unpack(late))
    redis.call("ZREM", expected, unpack(late))
    redis.call("ZREMRANGEBYRANK", missed, 0, -10001)
    redis.call("PEXPIRE", missed, ARGV[10])
end

local function new_ticket()
    -- By lane, then by the order of asking. Whole numbers, which a score keeps up to 2^53.
    local first = lane * 4e12
    local last = redis.call(
        "ZREVRANGEBYSCORE", line, string.format("%.0f", first + 4e12 - 1),
        string.format("%.0f", first), "WITHSCORES", "LIMIT", 0, 1
    )
    return string.format("%.0f", math.max(first + now, tonumber(last[2] or 0) + 1))
end

if not redis.call("ZSCORE", line, run) then
    redis.call("ZADD", line, redis.call("ZSCORE", missed, run) or new_ticket(), run)
    redis.call("ZREM", missed, run)
end
local ahead = redis.call("ZRANK", line, run)
local is_due = tonumber(redis.call("ZSCORE", expected, run) or math.huge) <= now

-- How many there is room for, and when there is some as far as starts go.
local free, may_start, opens = math.huge, math.huge, now
if at_once > 0 then
    free = at_once - redis.call("ZCARD", holders)
end
if window > 0 then
    -- One more for those who come at their time: or each that came late would send the next away,
    -- and its own time would have passed unused.
    local most = burst + (is_due and 1 or 0)
    redis.call("ZREMRANGEBYSCORE", starts, "-inf", now - window)
    may_start = most - redis.call("ZCARD", starts)
    if may_start <= 0 then
        local newest = redis.call("ZRANGE", starts, -most, -most, "WITHSCORES")
        opens = newest[2] + window + 1
    end
end
local room = math.min(free, may_start)
if room > 0 and (is_due or ahead < room) then
    redis.call("ZREM", line, run)
    redis.call("ZREM", expected, run)
    if window > 0 then
        redis.call("ZADD", starts, now, run)
        live_at_least(starts, window + 1)
    end
    redis.call("ZADD", holders, now + lease, run)
    live_at_least(holders, lease)
    return 0
end

-- For those who are late and still in the line nobody waits.
ahead = math.max(0, ahead - redis.call("ZCOUNT", expected, "-inf", now - patience))
local wait = 1
if window > 0 then
    wait = math.max(wait, math.min(opens - now + ahead * window / burst, longest_for_start))
end
if ahead >= free then
    local hold = tonumber(redis.call("GET", KEYS[6]) or 1000)
    local ends = (ahead + 1 - math.max(free, 0)) * hold / at_once
    -- Those in front look in when a holder that has died is forgotten.
    local longest = ahead < at_once and lease or longest_for_place
    wait = math.max(wait, 1000, math.min(ends, longest))
end
wait = math.ceil(wait)
redis.call("ZADD", expected, now + wait, run)
live_at_least(expected, wait + patience)
live_at_least(line, wait + patience)
return wait
