#!/usr/bin/env bash
# Tests two replicas behind HAProxy under load: kills one, then restarts both in turn. Prints the outcome of the requests and fails unless
#   1. the kill fails only requests that were in flight on the killed replica,
#   2. the balancer stops using that replica until it is back,
#   3. no request fails during the rolling restart, and every replica that is told to stop ends with exit code 0.
#
#   deploy/two_replicas.sh [RUMINATE]        # the program, by default the one in PATH; needs haproxy and curl
#
# RUMINATE_FLAGS are flags of `ruminate serve`, by default those of the embedded demo on the CPU; SECONDS_OF_LOAD=N, CLIENTS=N.
set -euo pipefail

program=${1:-ruminate}
read -r -a flags <<< "${RUMINATE_FLAGS:---cpu}"
load=${SECONDS_OF_LOAD:-4}
clients=${CLIENTS:-6}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
declare -A process=()

for tool in haproxy curl "$program"; do
    command -v "$tool" > /dev/null || { echo "missing: $tool" >&2; exit 77; }
done

cleanup() {
    # Workers end with this file.
    rm -f "$work/go"
    for name in "${!process[@]}"; do kill -9 "${process[$name]}" 2> /dev/null || true; done
    wait 2> /dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "FAILED: $*" >&2
    tail -n 5 "$work"/*.log >&2 || true
    exit 1
}

# Prints a free port.
port() {
    local try
    while :; do
        try=$((20000 + RANDOM % 30000))
        (exec 3<> "/dev/tcp/127.0.0.1/$try") 2> /dev/null || { echo "$try"; return; }
    done
}
front=$(port) admin=$(port)
declare -A at=([one]=$(port) [two]=$(port))
export RUMINATE_FRONT=127.0.0.1:$front RUMINATE_ADMIN=127.0.0.1:$admin
export RUMINATE_ONE=127.0.0.1:${at[one]} RUMINATE_TWO=127.0.0.1:${at[two]}

start() { # replica
    "$program" serve --port "${at[$1]}" --drain 30 --log-level warn "${flags[@]}" > "$work/$1.out" 2>> "$work/$1.log" &
    process[$1]=$!
}
waits_for() { # message, seconds, command…
    local what=$1 end=$((SECONDS + $2))
    shift 2
    until "$@"; do
        ((SECONDS < end)) || fail "$what"
        sleep 0.1
    done
}
healthy() { [[ $(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:${at[$1]}/health") == 200 ]]; }
balancer() { # command of HAProxy's runtime interface; prints nothing while HAProxy does not listen
    { exec 3<> "/dev/tcp/127.0.0.1/$admin"; } 2> /dev/null || return 0
    printf '%s\n' "$1" >&3
    cat <&3
    exec 3>&-
}
is_in_use() { (($(balancer "show stat" | awk -F, -v name="$1" '$1 == "replicas" && $2 == name { print $5 }') > 0)); }
state() { balancer "show stat" | awk -F, -v name="$1" '$1 == "replicas" && $2 == name { print $18 }'; }
is_in_state() { [[ $(state "$1") == "$2"* ]]; }

# Sends requests one after the other. Records a line for each: start and end, HTTP status, replica, curl's exit code, and whether the stream was whole.
worker() {
    local began body line status
    while [[ -e $work/go ]]; do
        began=$EPOCHREALTIME
        body=$work/body.$1
        status=0
        line=$(curl -sS -N -m 60 -o "$body" -w '%{http_code} %header{x-replica}' -H 'Content-Type: application/json' \
            -d '{"prompt": "The ball is under cup C. Swap CE AC AB AD AE", "max_tokens": 48, "ignore_eos": true, "steps": 32, "stream": true}' \
            "http://127.0.0.1:$front/v1/completions" 2> /dev/null) || status=$?
        grep -q '^data: \[DONE\]' "$body" && whole=whole || whole=part
        echo "$began $EPOCHREALTIME ${line% *} ${line#* } $status $whole" >> "$work/requests"
    done
}
under_load() { # command…
    : > "$work/requests"
    touch "$work/go"
    local workers=()
    for ((i = 0; i < clients; i++)); do worker "$i" & workers+=($!); done
    "$@"
    rm "$work/go"
    wait "${workers[@]}"
}
count() { awk "$1"' { n++ } END { print n + 0 }' "$work/requests"; }
good='$3 == 200 && $5 == 0 && $6 == "whole"'

kill_one() {
    sleep "$load"
    waits_for "the balancer does not use replica one" 20 is_in_use one
    echo "$EPOCHREALTIME" > "$work/killed"
    kill -9 "${process[one]}"
    wait "${process[one]}" 2> /dev/null || true
    waits_for "the balancer still uses the killed replica" 10 is_in_state one DOWN
    echo "$EPOCHREALTIME" > "$work/down"
    sleep "$load"
    start one
    waits_for "the replica did not come back" 60 is_in_state one UP
    echo "$EPOCHREALTIME" > "$work/up"
    sleep "$load"
}

restart_in_turn() {
    local name code
    for name in one two; do
        sleep "$load"
        # Drain before SIGTERM, so that no request is sent to a replica that has closed its socket.
        balancer "set server replicas/$name state drain" > /dev/null
        kill -TERM "${process[$name]}"
        code=0
        wait "${process[$name]}" || code=$?
        ((code == 0)) || fail "replica $name ended with exit code $code"
        start "$name"
        waits_for "replica $name did not come back" 60 healthy "$name"
        balancer "set server replicas/$name state ready" > /dev/null
        waits_for "the balancer does not use replica $name again" 10 is_in_state "$name" UP
    done
    sleep "$load"
}

start one
start two
for name in one two; do waits_for "replica $name did not start" 120 healthy "$name"; done
haproxy -c -q -f "$here/haproxy.cfg" || fail "HAProxy rejects deploy/haproxy.cfg"
haproxy -db -f "$here/haproxy.cfg" > "$work/haproxy.log" 2>&1 &
process[haproxy]=$!
for name in one two; do waits_for "the balancer does not use replica $name" 10 is_in_state "$name" UP; done

under_load kill_one
killed=$(< "$work/killed") down=$(< "$work/down") up=$(< "$work/up")
all=$(count '') failed=$(count "!($good)")
under_way=$(count "!($good) && \$1 <= $killed && \$2 >= $killed && (\$4 == \"one\" || \$4 == \"\")")
used=$(count "\$4 == \"one\" && \$1 > $down && \$2 < $up")
again=$(count "\$4 == \"one\" && $good && \$1 > $up")
# Between the kill and the first failed check, the balancer can try the dead replica; the connection fails, and the request goes to the other one.
echo "kill: $all requests, $failed failed ($under_way in flight on the killed replica), $used sent to it while it was down, $again after its return"
((failed == under_way && failed <= clients)) || { awk "!($good)" "$work/requests" >&2; fail "requests failed that were not in flight on the killed replica"; }
((used == 0 && again > 0)) || fail "the balancer used the replica at the wrong time"
((failed > 0)) || fail "no request was in flight on the killed replica, so the test shows nothing"
((all - failed > 0)) || fail "no request was answered"

under_load restart_in_turn
all=$(count '') failed=$(count "!($good)")
each=$(awk '{ n[$4]++ } END { print n["one"] + 0 " on one, " n["two"] + 0 " on two" }' "$work/requests")
echo "rolling restart: $all requests, $failed failed ($each)"
((failed == 0 && all > 0)) || { awk "!($good)" "$work/requests" >&2; fail "requests failed during the restart"; }
