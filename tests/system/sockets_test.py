#!/usr/bin/env python3
"""Restarts under the fire of datagram clients: every client knows what it could not send, and comes
back."""

import collections
import contextlib
import os
import socket
import sys
import threading
import time
import unittest

from example_programs import EXAMPLES
from harness import DEADLINE, RelayTest, event, line, wait_for

sys.path.insert(0, EXAMPLES)
from emit import Emitter  # noqa: E402 (the client that proto/examples tells to copy)

LONG = os.environ.get("RELAYTEST_LONG") == "1"
RESTARTS = int(os.environ.get("RELAYTEST_RESTARTS", "1000" if LONG else "20"))
CLIENTS = 3
PACE = 0.005  # seconds between two events of a client
# What a client of a Unix datagram socket may be told: full, nobody there, no path, going away.
TOLD = (BlockingIOError, ConnectionRefusedError, FileNotFoundError, BrokenPipeError)


class Fire:
    """Clients that send until stop(), each in a thread of its own."""

    def __init__(self, send_one):
        self.stopped = threading.Event()
        self.errors = []
        self.ids = [[] for _ in range(CLIENTS)]  # what each has handed over
        self.threads = [threading.Thread(target=self.run, args=(send_one, number), daemon=True)
                        for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, send_one, number):
        try:
            count = 0
            while not self.stopped.is_set():
                one = f"client-{number}-{count}"
                if send_one(number, line(event(one)).strip()):
                    self.ids[number].append(one)
                count += 1
                self.stopped.wait(PACE)
        except BaseException as error:  # handed to stop()
            self.errors.append(error)

    def count(self):
        return sum(len(ids) for ids in self.ids)

    def stop(self):
        """Every id that was handed over."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(DEADLINE)
        if self.errors:
            raise self.errors[0]
        return [one for ids in self.ids for one in ids]


class RestartsTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream("--ids-only")

    def restart_under(self, fire, relay):
        for _ in range(RESTARTS):
            before = fire.count()
            wait_for(lambda seen=before: fire.count() > seen + 10 or fire.errors, "events come")
            self.assertEqual(relay.end(), 0, relay.log()[-2000:])
            relay.start()

    def assert_exactly(self, relay, ids):
        """A row for each of these, once, and no other."""
        with contextlib.suppress(AssertionError):  # what is missing is told below
            wait_for(lambda: set(ids) <= set(self.upstream.row_ids()), "a row for each")
        self.wait_ledger(relay, pending=0, spooled=0)
        rows = collections.Counter(self.upstream.row_ids())
        self.assertEqual(set(ids) - set(rows), set(), "lost and nobody knows")
        self.assertEqual(set(rows) - set(ids), set(), "never handed over")
        self.assertEqual(sum(rows.values()), len(rows))

    def test_clients_that_keep_nothing_count_every_loss(self):
        relay = self.start_relay()
        lost = collections.Counter()
        clients = [None] * CLIENTS

        def send(number, data):
            try:
                if clients[number] is None:
                    clients[number] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    clients[number].setblocking(False)
                    clients[number].connect(relay.path("telemetry.sock"))
                clients[number].send(data)
                return True
            except TOLD as error:
                lost[type(error).__name__] += 1
                if not isinstance(error, BlockingIOError):
                    clients[number].close()
                    clients[number] = None
                return False

        begin = time.monotonic()
        fire = Fire(send)
        self.restart_under(fire, relay)
        ids = fire.stop()
        for client in clients:
            if client is not None:
                client.close()
        print(f"{RESTARTS} restarts in {time.monotonic() - begin:.0f} s: {len(ids)} datagrams "
              f"sent, refused {dict(lost)}")
        self.assertGreater(sum(lost.values()), 0, "no client met a restart")
        self.assert_exactly(relay, ids)

    def test_clients_that_keep_what_was_refused_lose_nothing(self):
        relay = self.start_relay()
        emitters = [Emitter(relay.path("telemetry.sock")) for _ in range(CLIENTS)]
        fire = Fire(lambda number, data: emitters[number].emit(data.decode()))
        self.restart_under(fire, relay)
        ids = fire.stop()
        for emitter in emitters:
            emitter.close(DEADLINE)
            self.assertEqual(emitter.dropped, 0)
        self.assert_exactly(relay, ids)

    def test_a_path_that_is_removed_is_made_again_and_clients_find_it(self):
        relay = self.start_relay()
        emitters = [Emitter(relay.path("telemetry.sock")) for _ in range(CLIENTS)]
        fire = Fire(lambda number, data: emitters[number].emit(data.decode()))
        wait_for(lambda: fire.count() > 20, "events under way")
        first = os.stat(relay.path("telemetry.sock")).st_ino
        os.unlink(relay.path("telemetry.sock"))
        wait_for(lambda: os.path.exists(relay.path("telemetry.sock"))
                 and os.stat(relay.path("telemetry.sock")).st_ino != first, "made again")
        seen = fire.count()
        wait_for(lambda: fire.count() > seen + 20, "events after it")
        ids = fire.stop()
        for emitter in emitters:
            emitter.close(DEADLINE)
            self.assertEqual(emitter.dropped, 0)
        self.assert_exactly(relay, ids)


if __name__ == "__main__":
    unittest.main(verbosity=1)
