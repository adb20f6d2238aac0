#!/usr/bin/env python3
"""kill -9 at random moments while several senders use the acked stream: nothing acknowledged may be
missing upstream, nothing may have two rows, and a request is repeated only when its reply or its ack
was lost."""

import contextlib
import http.client
import os
import random
import socket
import threading
import time
import unittest

from acked_sender import AckedSender
from harness import DEADLINE, RelayTest, event, in_threads, line, wait_for

CYCLES = int(os.environ.get("RELAYTEST_KILLS", "30"))
SENDERS = 3
IN_FLIGHT_MAX = 4096  # records read and not settled: the bound on repeats of one crash
UNCONFIRMED_MAX = 20_000  # events: fewer than memory.stall_buffer holds, so that none is shed
STALL_BUFFER = 8 << 20


class KillTest(RelayTest):
    def test_kill_9_at_random_moments_loses_nothing_that_was_acknowledged(self):
        upstream = self.start_upstream()
        relay = self.start_relay()
        rng = random.Random(7)
        senders = [AckedSender(relay.path("telemetry.stream.sock"), seed) for seed in range(SENDERS)]
        threads = [threading.Thread(target=sender.run) for sender in senders]
        for thread in threads:
            thread.start()
        try:
            for _ in range(CYCLES):
                time.sleep(rng.uniform(0.02, 0.4))
                relay.kill()
                relay.start()
                self.assert_balanced(relay)
        finally:
            for sender in senders:
                sender.stop.set()
            for thread in threads:
                thread.join(60)
        self.assertFalse(any(thread.is_alive() for thread in threads))
        ledger = self.wait_ledger(relay, spooled=0, pending=0)
        self.assertEqual(ledger["dropped"], 0)

        rows = upstream.row_ids()
        acknowledged = set().union(*(sender.acknowledged for sender in senders))
        sent = set().union(*(sender.sent for sender in senders))
        self.assertGreater(len(acknowledged), CYCLES)
        self.assertEqual(acknowledged - set(rows), set(), "acknowledged and missing")
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")
        self.assertEqual(set(rows) - sent, set(), "rows nobody sent")
        stats = upstream.stats()
        self.assertEqual(stats["requests"], len(rows) + stats["repeated"])
        self.assertLessEqual(stats["repeated"], CYCLES * IN_FLIGHT_MAX)
        print(f"kills={CYCLES} acknowledged={len(acknowledged)} rows={len(rows)} "
              f"repeated={stats['repeated']}")

    def test_an_id_acknowledged_before_the_kill_is_a_duplicate_after_it(self):
        upstream = self.start_upstream()
        upstream.control(down=True)
        relay = self.start_relay()
        events = [event() for _ in range(100)]
        self.assertEqual(relay.send_acked(events), (100, 0))
        relay.kill()
        relay.start()
        self.assertEqual(relay.ledger()["recovered"], 100)
        self.assertEqual(relay.send_acked(events), (100, 0))
        ledger = self.assert_balanced(relay)
        self.assertEqual(ledger["duplicates"], 100)
        self.assertEqual(ledger["reasons"], {"duplicates.unknown": 100})
        upstream.control(down=False)
        self.wait_ledger(relay, spooled=0, delivered=100)
        self.assertEqual(len(upstream.row_ids()), 100)
        self.assertEqual(upstream.stats()["repeated"], 0)

    def test_kill_9_loses_nothing_that_http_confirmed(self):
        upstream = self.start_upstream()
        relay = self.start_relay()
        rng = random.Random(5)
        confirmed = set()
        stop = threading.Event()

        def post():
            while not stop.is_set():
                one = event()
                try:
                    if relay.post(one)[0] == 200:
                        confirmed.add(one["externalRequestId"])
                except (OSError, http.client.HTTPException):
                    time.sleep(0.005)  # the daemon is being restarted

        def kill():
            try:
                for _ in range(6):
                    wanted = len(confirmed) + 5
                    wait_for(lambda n=wanted: len(confirmed) >= n, "posts are confirmed")
                    time.sleep(rng.uniform(0, 0.1))
                    relay.kill()
                    relay.start()
            finally:
                stop.set()

        in_threads([post, post, kill])
        self.wait_ledger(relay, spooled=0, pending=0)
        rows = upstream.row_ids()
        self.assertEqual(confirmed - set(rows), set(), "confirmed and missing")
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")

    def kill_among_unconfirmed(self, client):
        """Kills the daemon while `client` sends one event after the other and hears nothing; what
        arrives after a restart is what was sent first. Returns the bytes that were lost."""
        upstream = self.start_upstream()
        relay = self.start_relay()
        sent = []
        known = {}

        def send():
            with client, contextlib.suppress(OSError):
                while len(sent) < UNCONFIRMED_MAX:
                    data = line(event(f"unconfirmed-{len(sent)}"))
                    sent.append(len(data))  # before: a part of it may arrive as a line
                    client.sendall(data)

        def kill():
            wait_for(lambda: relay.ledger()["accepted"] >= 500, "events are durable")
            known.update(relay.ledger())
            relay.kill()

        client.settimeout(DEADLINE)
        client.connect(relay.path("telemetry.sock" if client.type == socket.SOCK_DGRAM
                                  else "telemetry.stream.sock"))
        in_threads([send, kill])
        relay.start()
        self.wait_ledger(relay, spooled=0, pending=0)
        rows = upstream.row_ids()
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")
        self.assertGreaterEqual(len(rows), known["accepted"], "durable and missing")
        self.assertEqual(set(rows), {f"unconfirmed-{number}" for number in range(len(rows))})
        return sum(sent[len(rows):])

    def test_kill_9_loses_of_a_stream_without_acks_only_what_was_under_way(self):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        kernel = client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.assertLessEqual(self.kill_among_unconfirmed(client), kernel + STALL_BUFFER)

    def test_kill_9_loses_of_datagrams_only_what_was_under_way(self):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        kernel = client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.assertLessEqual(self.kill_among_unconfirmed(client), kernel + STALL_BUFFER)


if __name__ == "__main__":
    unittest.main(verbosity=1)
