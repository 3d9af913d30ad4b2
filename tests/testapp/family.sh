#!/bin/sh
# As the command `family`, for a job that is a program: children of every sort, and no end.
# With `deaf`, itself and all of them heed no TERM.
tell() { echo "$1" >> "$JOBS_TEST_PIDS/$RUN_ID"; }
if [ "$1" = deaf ]; then trap '' TERM; fi
echo "before the limit"
tell $$
sleep 1000 & tell $!
sleep 1000 & tell $!
(trap '' TERM; exec sleep 1000) & tell $!
# This one's parent ends at once, and it has no terminal, no session and no pipe of the job's.
(setsid sleep 1000 < /dev/null > /dev/null 2>&1 & tell $!)
wait
