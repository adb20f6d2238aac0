#!/bin/sh
# Sends events, one JSON object a line of standard input, the way WAY:
#   opsrelay  the daemon's own command: stream with acks, sent again until durable
#   curl      HTTP over the Unix socket, many events in one request, each answered
#   stream    socat to the stream socket: back-pressure, no answer
#   datagram  socat to the datagram socket: one datagram a line, no answer, never waits
# RUN is the run directory (/run/opsrelay). Exit status: that of the program that sent.
set -eu

way=${1:?usage: send.sh opsrelay|curl|stream|datagram < events.ndjson}
run=${RUN:-/run/opsrelay}

case $way in
    opsrelay) exec opsrelay send --run-dir "$run" ;;
    curl)
        # --fail-with-body: a refusal (503 while the spool is full) is an exit status too.
        exec curl --silent --show-error --fail-with-body --max-time 10 --retry 3 \
            --unix-socket "$run/http.sock" --header 'Content-Type: application/x-ndjson' \
            --data-binary @- http://localhost/v1/ingest/batch
        ;;
    stream) exec socat -u STDIN "UNIX-CONNECT:$run/telemetry.stream.sock" ;;
    datagram)
        while IFS= read -r event; do
            printf '%s\n' "$event" | socat -u STDIN "UNIX-SENDTO:$run/telemetry.sock"
        done
        ;;
    *)
        printf 'send.sh: "%s" is none of opsrelay, curl, stream, datagram\n' "$way" >&2
        exit 2
        ;;
esac
