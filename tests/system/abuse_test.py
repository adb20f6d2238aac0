#!/usr/bin/env python3
"""Everything at once against small bounds: clients that stop in the middle, send garbage, bombs and
repeats, operators at work, an upstream and a key that come and go. Memory, descriptors, the
directory and the log stay within what is documented, and afterwards everything is accounted for.

RELAYTEST_ABUSE_SEED repeats the draws of a run (not its timing), RELAYTEST_ABUSE_SECONDS says how
long it lasts."""

import collections
import contextlib
import gzip
import http.client
import json
import os
import random
import socket
import subprocess
import threading
import time
import unittest

from harness import DEADLINE, INGEST, KEY, RELAY, RelayTest, UnixHttp, event, line, wait_for
from memory_test import has_sanitizer, peak_mib
from volumes import MIB, directory_bytes

SECONDS = float(os.environ.get("RELAYTEST_ABUSE_SECONDS", "20"))
SEED = int(os.environ.get("RELAYTEST_ABUSE_SEED") or random.SystemRandom().randrange(1 << 31))
MEMORY_MIB = 40
SPOOL_MIB = 96
CONFIG = f"""
memory: {{max_bytes: {MEMORY_MIB}MiB, stall_buffer: 4MiB}}
dedupe: {{max_ids: 300000}}
spool: {{max_bytes: {SPOOL_MIB}MiB}}
http: {{max_body: 2MiB}}
"""
CONNECTIONS_MAX = 1024
OWN_DESCRIPTORS = 160  # listeners, the spool's tables, connections to upstream, an admin's
LOG_LINES_PER_MINUTE = 120
REFUSALS = ("400", "413", "422", "500", "503", "429", "200_html", "reset_before")
BATCH = "/v1/ingest/batch"
BEGINNINGS = (b"", b'{"a":', b"GET /", b"POST " + INGEST.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
              b"Content-Type: application/json\r\nContent-Length: 50000\r\n\r\n" + b"x" * 30_000)


class Abuse:
    """One kind of it after another from each method; everything it meets but an answer is expected.
    Each runs in a thread of its own, with its own draws."""

    KINDS = ("stream", "stream", "crowd", "http", "http", "datagrams", "scrape", "operator",
             "upstream", "key")

    def __init__(self, relay, upstream):
        self.relay = relay
        self.upstream_process = upstream
        self.ids = collections.deque(["first"], maxlen=20_000)
        self.done = collections.Counter()
        self.errors = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(kind, number))
                        for number, kind in enumerate(self.KINDS)]

    def _run(self, kind, number):
        rng = random.Random(f"{SEED} {kind} {number}")
        try:
            while not self.stop.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    getattr(self, kind)(rng)
                    self.done[kind] += 1
        except BaseException as error:  # raised by run()
            self.errors.append(error)
            self.stop.set()

    def run(self, watch):
        for thread in self.threads:
            thread.start()
        end = time.monotonic() + SECONDS
        try:
            while time.monotonic() < end and not self.stop.wait(0.1):
                watch()
        finally:
            self.stop.set()
            for thread in self.threads:
                thread.join(DEADLINE)
        if self.errors:
            raise self.errors[0]

    def connect(self, name, kind=socket.SOCK_STREAM):
        client = socket.socket(socket.AF_UNIX, kind)
        client.settimeout(5)
        client.connect(self.relay.path(name))
        return client

    def event(self, rng, size=0):
        """Three of ten are repeats, most of the same event."""
        again = rng.random() < 0.3
        identifier = rng.choice(self.ids) if again else f"{rng.getrandbits(64):x}"
        self.ids.append(identifier)
        return event(identifier, featureTag="x" * size) if size else event(identifier)

    def stream(self, rng):
        with self.connect("telemetry.stream.sock") as client:
            for _ in range(rng.randrange(1, 5)):
                client.sendall(b"".join(line(self.event(rng)) for _ in range(rng.randrange(1, 500))))
            if rng.random() < 0.5:
                client.sendall(b'{"provider":"' + b"y" * rng.randrange(60_000))
                self.stop.wait(rng.random())

    def crowd(self, rng):
        with contextlib.ExitStack() as clients:
            for _ in range(300):
                name = rng.choice(("telemetry.stream.sock", "http.sock"))
                client = clients.enter_context(self.connect(name))
                client.send(rng.choice(BEGINNINGS))
            self.stop.wait(rng.random() * 3)

    def http(self, rng):
        connection = UnixHttp(self.relay.path("http.sock"), 5)
        with contextlib.closing(connection):
            for _ in range(rng.randrange(1, 40)):
                path, headers, body = rng.choice(
                    (self.one, self.batch, self.bomb, self.noise, self.bad))(rng)
                connection.request("POST", path, body, {"Content-Type": "application/json",
                                                        **headers})
                connection.getresponse().read()
            connection.request("GET", "/v1/diagnostics/workspace-status")
            connection.getresponse().read()

    def one(self, rng):
        return INGEST, {}, json.dumps(self.event(rng))

    def batch(self, rng):
        events = [self.event(rng, rng.randrange(3000)) for _ in range(rng.randrange(300))]
        return BATCH, {}, json.dumps(events)

    def bomb(self, rng):
        return BATCH, {"Content-Encoding": "gzip"}, gzip.compress(b" " * rng.randrange(30_000_000), 1)

    def noise(self, rng):
        path = rng.choice((INGEST, BATCH, "/x", "/lanes/x" + BATCH))
        return path, {}, rng.randbytes(rng.randrange(70_000))

    def bad(self, rng):
        return INGEST, {}, json.dumps({"bad": "z" * rng.randrange(60_000)})

    def datagrams(self, rng):
        with self.connect("telemetry.sock", socket.SOCK_DGRAM) as client:
            for _ in range(100):
                client.send(rng.choice((line(self.event(rng)), line(self.event(rng)) * 3, b"{}",
                                        rng.randbytes(rng.randrange(2000)))))

    def scrape(self, rng):
        for path in ("/status", "/metrics", "/readyz"):
            self.relay.admin(path)
        self.stop.wait(0.1)

    def operator(self, rng):
        command = rng.choice(("dead list", "dead replay --all --yes", "dead purge --all --yes",
                              "dead export", "status", "pause", "resume", "resume", "reload",
                              "flush --timeout 1s", "tail")).split()
        with subprocess.Popen([RELAY, *command, "--run-dir", self.relay.run_dir],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as process:
            if command == ["tail"]:
                self.stop.wait(rng.random() * 4)  # nobody reads: the daemon must not wait
                process.kill()
            process.communicate(timeout=DEADLINE)
        self.stop.wait(rng.random())

    def upstream(self, rng):
        kind = rng.random()
        rates = {rng.choice(REFUSALS): rng.randrange(1, 600)} if kind > 0.5 else {}
        self.upstream_process.control(down=kind < 0.2, rates=rates, latency_ms=rng.randrange(50))
        self.stop.wait(rng.random() * 6)

    def key(self, rng):
        self.stop.wait(rng.random() * 10)
        self.write_key(rng.choice((KEY, KEY, KEY, "wrong", "")))

    def write_key(self, key):
        with open(self.relay.key_file, "w", encoding="utf-8") as file:
            file.write(key + "\n")

    def make_peace(self):
        self.write_key(KEY)
        self.upstream_process.control(down=False, rates={}, latency_ms=0)
        for command in ("resume", "dead purge --all --yes"):
            subprocess.run([RELAY, *command.split(), "--run-dir", self.relay.run_dir], check=True,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)


class AbuseTest(RelayTest):
    def test_everything_at_once_stays_within_bounds(self):
        print(f"RELAYTEST_ABUSE_SEED={SEED} seconds={SECONDS:.0f}", flush=True)
        upstream = self.start_upstream("--ids-only")
        relay = self.start_relay(config=CONFIG)
        abuse = Abuse(relay, upstream)
        seen = collections.Counter()

        def watch():
            descriptors = len(os.listdir(f"/proc/{relay.pid}/fd"))
            seen["descriptors"] = max(seen["descriptors"], descriptors)
            seen["bytes"] = max(seen["bytes"], directory_bytes(relay.spool_dir))

        began = time.monotonic()
        abuse.run(watch)
        self.assertEqual(set(abuse.done), set(Abuse.KINDS), abuse.done)
        abuse.make_peace()
        self.wait_ledger(relay, DEADLINE * 2, spooled=0, pending=0)
        minutes = (time.monotonic() - began) / 60
        if not has_sanitizer():
            self.assertLess(peak_mib(relay.pid), MEMORY_MIB)
        self.assertLess(seen["bytes"], SPOOL_MIB * MIB)
        self.assertLess(seen["descriptors"], CONNECTIONS_MAX + OWN_DESCRIPTORS)
        wait_for(lambda: len(os.listdir(f"/proc/{relay.pid}/fd")) < OWN_DESCRIPTORS,
                 "the descriptors of clients are closed")
        ledger = self.assert_balanced(relay)
        self.assertGreater(ledger["accepted"], 0)
        # What was put back may have an id that was sent again meanwhile: then it is one row.
        rows = upstream.row_ids()
        self.assertEqual(len(rows), len(set(rows)))
        self.assertLessEqual(len(rows), ledger["delivered"])
        self.assertEqual(relay.end(), 0)
        self.assertLess(len(relay.log().splitlines()), LOG_LINES_PER_MINUTE * (minutes + 1))


if __name__ == "__main__":
    unittest.main()
