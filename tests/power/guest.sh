#!/bin/sh
# The init of the small machine. `power=load`: accepts events until the power goes, and says on the
# second serial line which are acknowledged. `power=drain`: delivers everything, says what arrived.
# BusyBox's shell and tools, nothing else.
export PATH=/bin
readonly REPORT=/dev/ttyS1
readonly RUN=/run/opsrelay
readonly UPSTREAM=http://127.0.0.1:8099

say() { echo "$*" >"$REPORT"; }
give_up() {
    say "FAILED $*"
    tail -n 40 /run/log >&2 2>/dev/null
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
while read -r module; do insmod "$module" || echo "insmod $module failed"; done <modules.list
ip link set lo up
mkdir -p /spool
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if [ -b /dev/vda ]; then break; fi
    sleep 0.2
done
mount -t ext4 /dev/vda /spool || give_up "the file system does not mount"
PARAMETERS=$(cat /proc/cmdline)
MODE=${PARAMETERS##*power=}
MODE=${MODE%% *}
CYCLE=${PARAMETERS##*cycle=}
CYCLE=${CYCLE%% *}
echo test-key >/run/key
chmod 600 /run/key

start_relay() {
    opsrelay run --run-dir "$RUN" --spool-dir /spool/opsrelay --api-key-file /run/key \
        --upstream-url "$1" --http-port off --udp-port off --admin-port off >/run/log 2>&1 &
    RELAY=$!
    until opsrelay status --run-dir "$RUN" --ready >/dev/null 2>&1; do
        kill -0 "$RELAY" 2>/dev/null || give_up "opsrelay ended"
        sleep 0.05
    done
}

# Events of one batch, ids NAME-FIRST and following.
batch() {
    awk -v name="$1" -v first="$2" -v count="$3" 'BEGIN {
        for (i = 0; i < count; i++)
            printf "{\"externalRequestId\":\"%s-%d\",\"provider\":\"openai\",\"model\":\"m\"," \
                "\"inputTokens\":%d,\"outputTokens\":96,\"status\":\"success\"," \
                "\"featureTag\":\"%08x%08x\"}\n", name, first + i, i, 2654435761 * (first + i) % 4294967296, i }'
}

# One sender: each line of its report is true once it is there.
send_for_ever() {
    first=0
    while :; do
        batch "$1" "$first" "$2" | opsrelay send --run-dir "$RUN" >/dev/null 2>>/run/log &&
            say "ACK $1 $first $2"
        first=$((first + $2))
    done
}

case $MODE in
    load)
        start_relay http://127.0.0.1:9
        say "READY"
        send_for_ever "c$CYCLE-one" 1 &
        send_for_ever "c$CYCLE-some" 20 &
        send_for_ever "c$CYCLE-many" 2000 &
        wait
        ;;
    drain)
        opsrelay-upstream --port 8099 >/run/upstream.log 2>&1 &
        start_relay "$UPSTREAM"
        for _ in $(seq 600); do
            case $(opsrelay status --run-dir "$RUN" --output json | tr -d ' \n') in
                *'"spooled":0,'*) DRAINED=yes && break ;;
            esac
            sleep 0.2
        done
        [ "$DRAINED" = yes ] || give_up "not drained"
        say "LEDGER $(opsrelay status --run-dir "$RUN" --output json | tr -d '\n')"
        wget -qO- "$UPSTREAM/rows?ids=1&limit=100000000" | sed 's/^/ROW /' >"$REPORT"
        kill -TERM "$RELAY"
        wait "$RELAY" || give_up "opsrelay ended with $?"
        umount /spool
        say "DONE"
        ;;
    *) give_up "no such mode: $MODE" ;;
esac
poweroff -f
