#!/usr/bin/env bash
# Two replicas behind HAProxy under load: one is killed, then both are restarted in turn. Prints what became of every request and fails unless
#   1. after the kill only requests fail that were under way on the killed replica,
#   2. the balancer stops using it, and uses it again once it is back,
#   3. no request fails during a rolling restart, and every replica that was told to stop ends with exit code 0.
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

# Free ports, one after the other.
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
waits_for() { # what, seconds, command…
    local what=$1 end=$((SECONDS + $2))
    shift 2
    until "$@"; do
        ((SECONDS < end)) || fail "$what"
        sleep 0.1
    done
}
healthy() { [[ $(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:${at[$1]}/health") == 200 ]]; }
balancer() { # a command of HAProxy's runtime interface; nothing as long as it does not listen
    { exec 3<> "/dev/tcp/127.0.0.1/$admin"; } 2> /dev/null || return 0
    printf '%s\n' "$1" >&3
    cat <&3
    exec 3>&-
}
is_in_use() { (($(balancer "show stat" | awk -F, -v name="$1" '$1 == "replicas" && $2 == name { print $5 }') > 0)); }
state() { balancer "show stat" | awk -F, -v name="$1" '$1 == "replicas" && $2 == name { print $18 }'; }
is_in_state() { [[ $(state "$1") == "$2"* ]]; }

# One request after the other. A line for each: when it began and ended, its replica, HTTP status, curl's exit code, how much of the stream came.
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
    waits_for "nobody uses replica one" 20 is_in_use one
    echo "$EPOCHREALTIME" > "$work/killed"
    kill -9 "${process[one]}"
    wait "${process[one]}" 2> /dev/null || true
    waits_for "the balancer still uses the killed replica" 10 is_in_state one DOWN
    echo "$EPOCHREALTIME" > "$work/down"
    sleep "$load"
    start one
    waits_for "the replica does not come back" 60 is_in_state one UP
    echo "$EPOCHREALTIME" > "$work/up"
    sleep "$load"
}

restart_in_turn() {
    local name code
    for name in one two; do
        sleep "$load"
        # First no new requests, then the end: nothing is on its way to a replica that has closed its socket.
        balancer "set server replicas/$name state drain" > /dev/null
        kill -TERM "${process[$name]}"
        code=0
        wait "${process[$name]}" || code=$?
        ((code == 0)) || fail "replica $name ended with exit code $code"
        start "$name"
        waits_for "replica $name does not come back" 60 healthy "$name"
        balancer "set server replicas/$name state ready" > /dev/null
        waits_for "the balancer does not use replica $name again" 10 is_in_state "$name" UP
    done
    sleep "$load"
}

start one
start two
for name in one two; do waits_for "replica $name does not start" 120 healthy "$name"; done
haproxy -c -q -f "$here/haproxy.cfg" || fail "HAProxy refuses its configuration"
haproxy -db -f "$here/haproxy.cfg" > "$work/haproxy.log" 2>&1 &
process[haproxy]=$!
for name in one two; do waits_for "the balancer does not use replica $name" 10 is_in_state "$name" UP; done

under_load kill_one
killed=$(< "$work/killed") down=$(< "$work/down") up=$(< "$work/up")
all=$(count '') failed=$(count "!($good)")
under_way=$(count "!($good) && \$1 <= $killed && \$2 >= $killed && (\$4 == \"one\" || \$4 == \"\")")
used=$(count "\$4 == \"one\" && \$1 > $down && \$2 < $up")
again=$(count "\$4 == \"one\" && $good && \$1 > $up")
# Between the kill and the first check that fails a request may be sent to the dead replica, whose refusal sends it to the other.
echo "kill: $all requests, $failed failed, all of them under way on the killed replica: $under_way; $used sent to it while it was down, $again after it was back"
((failed == under_way && failed <= clients)) || { awk "!($good)" "$work/requests" >&2; fail "requests failed that were not on the killed replica"; }
((used == 0 && again > 0)) || fail "the balancer used the replica at the wrong time"
((failed > 0)) || fail "no request was under way on the killed replica, so nothing was shown"
((all - failed > 0)) || fail "no request was answered"

under_load restart_in_turn
all=$(count '') failed=$(count "!($good)")
each=$(awk '{ n[$4]++ } END { print n["one"] + 0 " on one, " n["two"] + 0 " on two" }' "$work/requests")
echo "rolling restart: $all requests, $failed failed ($each)"
((failed == 0 && all > 0)) || { awk "!($good)" "$work/requests" >&2; fail "requests failed during the restart"; }
