#!/usr/bin/env python3
"""Sends events to opsrelay's datagram socket: never blocks, never raises for the relay's sake.

    from emit import Emitter
    relay = Emitter("/run/opsrelay/telemetry.sock")
    relay.emit({"externalRequestId": "r-1", "provider": "openai", "model": "gpt-4o-mini", ...})

What the socket does not take now waits in a bounded buffer and goes with the next call, several
events in one datagram. What the buffer does not hold is dropped, counted, and reported to the
relay, which exports it as opsrelay_client_dropped_total. Datagrams have no answer: whoever must
know that an event is durable uses the stream with acks, or HTTP.

    emit.py SOCKET [SECONDS] < events.ndjson

sends every line, waits up to SECONDS (5) for the socket, and prints the counts; exit status 0 when
nothing was dropped.
"""

import collections
import json
import socket
import sys
import threading
import time


class Emitter:
    EVENT_BYTES_MAX = 64 * 1024     # the relay refuses longer ones
    DATAGRAM_BYTES_MAX = 32 * 1024  # of several events
    RETRY_SECONDS = 0.1             # between two tries to connect

    def __init__(self, path, buffer_events=10_000):
        self.sent = 0     # handed to the relay's socket
        self.dropped = 0  # given up here
        self._path = path
        self._limit = buffer_events
        self._waiting = collections.deque()
        self._reported = 0
        self._socket = None
        self._retry_at = 0.0
        self._lock = threading.Lock()

    def emit(self, event):
        """Sends a dict, or JSON text without newlines, now or with a later call; False: dropped."""
        text = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))
        line = text.encode()
        with self._lock:
            if len(self._waiting) >= self._limit or len(line) > self.EVENT_BYTES_MAX:
                self.dropped += 1
                return False
            self._waiting.append(line)
            self._send_waiting()
            return True

    def flush(self, seconds=1.0):
        """Sends what waits; False when some of it still does after so long."""
        end = time.monotonic() + seconds
        while True:
            with self._lock:
                self._send_waiting()
                if not self._waiting and self._reported == self.dropped:
                    return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)

    def close(self, seconds=1.0):
        """Sends what waits; what still does after so long is dropped."""
        self.flush(seconds)
        with self._lock:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._disconnect()

    def _send_waiting(self):
        while self._waiting or self._reported != self.dropped:
            if self._socket is None and not self._connect():
                return
            try:
                self._send_one()
            except BlockingIOError:
                return  # the relay's queue is full: with the next call
            except OSError:
                self._disconnect()  # it went away, or its socket was made anew

    def _send_one(self):
        dropped = self.dropped
        if self._reported != dropped:
            lost = {"opsrelay": {"dropped": dropped - self._reported}}
            self._socket.send(json.dumps(lost).encode())
            self._reported = dropped
            return
        batch, size = [], 0
        for line in self._waiting:
            size += len(line) + 1
            if batch and size > self.DATAGRAM_BYTES_MAX:
                break
            batch.append(line)
        self._socket.send(b"\n".join(batch))
        self.sent += len(batch)
        for _ in batch:
            self._waiting.popleft()

    def _connect(self):
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + self.RETRY_SECONDS
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(self._path)
            return True
        except OSError:
            self._disconnect()
            return False

    def _disconnect(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def main(path, seconds="5"):
    relay = Emitter(path)
    for line in sys.stdin:
        if line.strip():
            relay.emit(line.strip())
    relay.close(float(seconds))
    print(f"sent={relay.sent} dropped={relay.dropped}")
    return 0 if relay.dropped == 0 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
