#!/usr/bin/env python3
"""The daemon on a disk that fails: calls that end with an error, once or for ever, writes that do
half, and syncs that do not return. Nothing acknowledged is lost, nothing gets two rows, and clients
are told in time."""

import base64
import os
import random
import socket
import subprocess
import threading
import time
import unittest

from acked_sender import AckedSender
from faults import Fault, Faults
from harness import DEADLINE, RELAY, RelayTest, StreamClient, event, line, wait_for

LONG = os.environ.get("RELAYTEST_LONG", "") == "1"

LOG = "*/db/*.log"
TABLE = "*/db/*.sst"
MANIFEST = "*/db/MANIFEST-*"

# What a fault may come to.
UNNOTICED = "goes on, nothing to be seen"
KEPT = "the batch is kept until the disk takes it"
REOPENED = "opened again in place, the batch retried"
ENDED = "exit 6; the next start has everything"

REFUSED = "exit 4, nothing is changed; healed, it starts with everything"
STOPPED = "exit 0; the next start has everything"

# (site, fault, rules, what happens). Every rule of a row has to be met.
RUNNING = [
    ("write-ahead log", "fdatasync EIO once", [Fault("fdatasync", LOG, times=1)], REOPENED),
    ("write-ahead log", "fdatasync EIO for ever", [Fault("fdatasync", LOG)], ENDED),
    ("write-ahead log", "write EIO once", [Fault("write", LOG, times=1)], REOPENED),
    ("write-ahead log", "write EIO for ever", [Fault("write", LOG)], ENDED),
    ("write-ahead log", "write short", [Fault("write", LOG, "half")], UNNOTICED),
    ("write-ahead log", "write half, then EIO",
     [Fault("write", LOG, "half", times=1), Fault("write", LOG, times=1)], REOPENED),
    ("write-ahead log", "write ENOSPC for a while", [Fault("write", LOG, error="ENOSPC")], KEPT),
    ("write-ahead log", "open EIO once", [Fault("open", LOG, times=1)], REOPENED),
    ("write-ahead log", "fallocate ENOSPC", [Fault("fallocate", LOG, error="ENOSPC")], UNNOTICED),
    ("write-ahead log", "ftruncate EIO", [Fault("ftruncate", LOG)], UNNOTICED),
    ("table", "fdatasync EIO once", [Fault("fdatasync", TABLE, times=1)], REOPENED),
    ("table", "write EIO once", [Fault("write", TABLE, times=1)], REOPENED),
    ("table", "write ENOSPC for a while", [Fault("write", TABLE, error="ENOSPC")], KEPT),
    ("table", "open EIO once", [Fault("open", TABLE, times=1)], REOPENED),
    ("manifest", "fdatasync EIO once", [Fault("fdatasync", MANIFEST, times=1)], REOPENED),
    ("manifest", "write EIO once", [Fault("write", MANIFEST, times=1)], REOPENED),
    ("manifest", "write ENOSPC for a while", [Fault("write", MANIFEST, error="ENOSPC")], KEPT),
    ("directory", "fsync EIO once", [Fault("fsync", "*/db", times=1)], REOPENED),
    ("old file", "unlink EIO once", [Fault("unlink", "*/db/*", times=1)], UNNOTICED),
]

# (site, fault, rules): the daemon refuses to start.
STARTING = [
    ("lock", "open EIO", [Fault("open", "*/db/LOCK")]),
    ("manifest", "open EIO", [Fault("open", MANIFEST)]),
    ("manifest", "fdatasync EIO", [Fault("fdatasync", MANIFEST)]),
    ("CURRENT", "rename EIO", [Fault("rename", "*/db/CURRENT")]),
    ("write-ahead log", "open ENOSPC", [Fault("open", LOG, error="ENOSPC")]),
    ("table", "write ENOSPC", [Fault("write", TABLE, error="ENOSPC")]),
    ("table", "fdatasync EIO", [Fault("fdatasync", TABLE)]),
    ("directory", "fsync EIO", [Fault("fsync", "*/db")]),
]
# (site, fault, rules): it ends as if nothing had happened.
STOPPING = [
    ("table", "write EIO", [Fault("write", TABLE)]),
    ("table", "fdatasync EIO", [Fault("fdatasync", TABLE)]),
    ("manifest", "write ENOSPC", [Fault("write", MANIFEST, error="ENOSPC")]),
]


def large(event_id):
    """Now and then an event that does not compress, so that memory tables fill within a second."""
    rng = random.Random(event_id)
    if rng.random() > 0.2:
        return event(event_id)
    return event(event_id, padding=base64.b64encode(rng.randbytes(30_000)).decode())


class Senders:
    """Two clients of the acked stream in threads of their own."""

    def __init__(self, relay, seed):
        path = relay.path("telemetry.stream.sock")
        self.all = [AckedSender(path, seed * 2 + number, large) for number in range(2)]
        self.threads = [threading.Thread(target=sender.run) for sender in self.all]
        for thread in self.threads:
            thread.start()

    def acknowledged(self):
        return set().union(*(sender.acknowledged.copy() for sender in self.all))

    def wait_more(self, count, relay, what):
        """Until so many more are acknowledged, or the daemon ended."""
        wanted = len(self.acknowledged()) + count
        wait_for(lambda: len(self.acknowledged()) >= wanted or not relay.running(), what)

    def stop(self):
        for sender in self.all:
            sender.stop.set()
        for thread in self.threads:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in self.threads)


class FaultTest(RelayTest):
    MATRIX = "system/fault_test"

    def setUp(self):
        super().setUp()
        self.faults = Faults(self.directory)
        self.seed = 0

    def start_faulty(self, name="relay", environment=None, **settings):
        return self.start_relay(
            name=name, environment={**self.faults.environment, **(environment or {})}, **settings)

    def ride(self, name, rules, expected):
        """The daemon under load meets the faults and is healed; what came of it."""
        self.seed += 1
        relay = self.start_faulty(name)
        senders = Senders(relay, self.seed)
        try:
            senders.wait_more(100, relay, "a first hundred acknowledged")
            self.faults.begin(*rules)
            for index in range(len(rules)):
                wait_for(lambda i=index: self.faults.hits(i) > 0 or not relay.running(),
                         f"{name}: fault {index} is met")
            if expected != UNNOTICED:  # a thread in the background may be slow to report its fault
                wait_for(lambda: not relay.running() or self.noticed(relay, expected) == expected,
                         f"{name}: {expected}")
            if expected == ENDED:
                wait_for(lambda: not relay.running(), f"{name}: it ends")
            elif expected != KEPT:
                senders.wait_more(100, relay, f"{name}: it goes on")
            self.faults.end()
            ended = not relay.running()
            if ended:
                self.assertEqual(relay.wait(), 6, relay.log()[-3000:])
                relay.start()
            senders.wait_more(300, relay, f"{name}: it goes on when healed")
            self.assertTrue(relay.running(), relay.log()[-3000:])
        finally:
            self.faults.end()
            senders.stop()
        self.wait_ledger(relay, spooled=0, pending=0)
        self.assertEqual(relay.ledger()["dropped"], 0)
        self.assertEqual(relay.end(), 0)
        rows = self.upstream.row_ids()
        self.assertEqual(senders.acknowledged() - set(rows), set(), "acknowledged and missing")
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")
        return ENDED if ended else self.noticed(relay, expected) or UNNOTICED

    @staticmethod
    def noticed(relay, expected):
        """What the log says of failed writes. A full volume may meet a commit or acks first."""
        log = relay.log()
        if "the spool cannot be used any more" in log:
            return ENDED
        kept = "kept and tried again" if expected == KEPT else "the batch is kept and tried again"
        if kept in log:
            return KEPT
        return REOPENED if "opening the spool again" in log else None

    def test_a_running_daemon_on_a_failing_disk(self):
        self.start_upstream()
        for number, (site, fault, rules, expected) in enumerate(RUNNING):
            with self.subTest(site=site, fault=fault):
                came = self.ride(f"{site.split()[-1]}-{number}", rules, expected)
                self.assertEqual(came, expected)
                self.record(site, f"{fault}, running", came)

    def test_a_start_on_a_failing_disk(self):
        """It refuses, says what and where, changes nothing; healed, it starts with everything."""
        upstream = self.start_upstream()
        upstream.control(down=True)
        relay = self.start_faulty()
        events = []
        for site, fault, rules in STARTING:
            with self.subTest(site=site, fault=fault):
                more = [event() for _ in range(100)]  # so that there is a log to recover from
                self.assertEqual(relay.send_acked(more), (100, 0))
                events += more
                relay.kill()
                self.faults.begin(*rules)
                relay.start(ready=False)
                self.assertEqual(relay.wait(), 4, relay.log()[-2000:])
                self.assertGreater(self.faults.hits(), 0)
                last = relay.log().splitlines()[-1]
                self.assertIn("level=error", last)
                self.assertIn(relay.spool_dir, last)
                self.assertIn("code=spool_unusable", last)
                self.faults.end()
                relay.start()
                self.assertEqual(relay.ledger()["recovered"], len(events))
                self.record(site, f"{fault}, starting", REFUSED)
        upstream.control(down=False)
        self.wait_ledger(relay, spooled=0, delivered=len(events))
        self.assertEqual(sorted(upstream.row_ids()),
                         sorted(one["externalRequestId"] for one in events))

    def test_a_stop_on_a_failing_disk(self):
        """What was acknowledged is in the log: that it could not be tidied up costs nothing."""
        upstream = self.start_upstream()
        for number, (site, fault, rules) in enumerate(STOPPING):
            with self.subTest(site=site, fault=fault):
                upstream.control(down=True)
                relay = self.start_faulty(f"stop-{number}")
                events = [event() for _ in range(300)]
                self.assertEqual(relay.send_acked(events), (300, 0))
                self.faults.begin(*rules)
                self.assertEqual(relay.end(), 0)
                self.assertGreater(self.faults.hits(), 0)
                self.assert_ledger(self.final_ledger(relay))
                self.faults.end()
                relay.start()
                self.assertEqual(relay.ledger()["recovered"], 300)
                upstream.control(down=False)
                self.wait_ledger(relay, spooled=0, delivered=300)
                self.assertEqual(relay.end(), 0)
                self.record(site, f"{fault}, stopping", STOPPED)

    def test_a_failed_sync_is_never_durable_and_its_ids_are_forgotten(self):
        """The log cannot be synced any more: each client hears that its event is not confirmed, the
        daemon ends with code 6, and to the next one the same ids are new or already stored."""
        upstream = self.start_upstream()
        relay = self.start_faulty()
        before = [event() for _ in range(100)]
        self.assertEqual(relay.send_acked(before), (100, 0))
        self.faults.begin(Fault("fdatasync", LOG))
        streamed = [event() for _ in range(50)]
        posted = event()
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            client.send(b"".join(line(one) for one in streamed))
            status, headers, body = relay.post(posted)
            self.assertEqual(status, 503)
            self.assertEqual(headers["Retry-After"], "1")
            self.assertIn(body["reason"], ("given_up", "not_confirmed"))
            self.assertIs(body["ok"], False)
            while client.read_ack():
                pass
            self.assertEqual((client.durable, client.rejected), (0, 0))
        self.assertEqual(relay.wait(), 6)
        self.faults.end()
        relay.start()
        status, _, body = relay.post(posted)
        self.assertEqual((status, body["ok"]), (200, True))
        self.assertEqual(relay.send_acked(streamed), (50, 0))
        self.wait_ledger(relay, spooled=0, pending=0)
        sent = [one["externalRequestId"] for one in before + streamed + [posted]]
        self.assertEqual(sorted(upstream.row_ids()), sorted(sent))
        self.record("write-ahead log", "fdatasync EIO for ever, seen by clients",
                    "HTTP 503, streams closed without an ack, exit 6; sent again, one row each")

    def test_a_stalled_disk_is_told_in_time_and_loses_nothing(self):
        """No sync returns. Datagram senders feel nothing until the stall buffer is full, then their
        events are counted as shed; HTTP and acked streams are answered by their deadlines; /readyz
        says why; then everything commits."""
        upstream = self.start_upstream()
        relay = self.start_faulty(
            config="memory:\n  stall_buffer: 1MiB\nstream:\n  ack_timeout: 500ms\n",
            environment={"OPSRELAY_HTTP__ACK_TIMEOUT": "400ms"})
        self.assertEqual(relay.send_acked([event() for _ in range(100)]), (100, 0))
        self.faults.begin(Fault("fdatasync", LOG, "stall"))
        first = event()
        relay.datagram(line(first))
        self.faults.wait_hit()

        datagrams = [event(f"datagram-{number}") for number in range(1000)]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE)
            client.connect(relay.path("telemetry.sock"))
            for one in datagrams:
                client.send(line(one))
        posted = event()
        status, headers, body = relay.post(posted)
        self.assertEqual((status, body["reason"]), (503, "not_confirmed"))
        self.assertEqual(headers["Retry-After"], "1")
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            streamed = [event() for _ in range(10)]
            client.send(b"".join(line(one) for one in streamed))
            self.assertFalse(client.read_ack(), "acknowledged although no sync returned")
        wait_for(lambda: any(reason.startswith("disk_stalled: no answer for ")
                             for reason in relay.admin("/readyz")[1]["reasons"]), "why not ready")
        self.assertEqual(relay.admin("/readyz")[0], 503)
        self.assertEqual(relay.admin("/livez")[0], 200)

        # Far more than the stall buffer holds: still no sender waits.
        flood = [event(f"flood-{number}", padding="x" * 2000) for number in range(2000)]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE)
            client.connect(relay.path("telemetry.sock"))
            for one in flood:
                client.send(line(one))
        status, _, body = relay.post(event())
        self.assertEqual((status, body["reason"]), (503, "memory_full"))
        if LONG:
            time.sleep(10)
        self.faults.end()

        ledger = self.wait_ledger(relay, pending=0, spooled=0)
        wait_for(relay.ready, "ready again")
        self.assertGreater(ledger["shed"], 0)
        self.assertEqual(relay.post(posted)[0], 200)
        self.assertEqual(relay.send_acked(streamed), (10, 0))
        self.wait_ledger(relay, pending=0, spooled=0)
        rows = upstream.row_ids()
        self.assertEqual(len(rows), len(set(rows)))
        wanted = {one["externalRequestId"] for one in [first, posted, *streamed, *datagrams]}
        self.assertEqual(wanted - set(rows), set(), "not shed, and not delivered")
        shed = ledger["received"] - ledger["accepted"] - ledger["duplicates"]
        self.assertEqual(shed, ledger["shed"])
        self.assertEqual(relay.end(), 0)
        self.record("write-ahead log", "fdatasync does not return for a while",
                    "HTTP 503, acked streams closed, `/readyz` says so, datagrams wait in memory and "
                    "are then shed; all else commits afterwards")

    def test_a_disk_that_never_answers_does_not_hold_the_exit(self):
        self.start_upstream()
        relay = self.start_faulty()
        self.assertEqual(relay.send_acked([event() for _ in range(10)]), (10, 0))
        self.faults.begin(Fault("fdatasync", LOG, "stall"))
        relay.datagram(line(event()))
        self.faults.wait_hit()
        done = subprocess.run(
            [RELAY, "flush", "--run-dir", relay.run_dir, "--timeout", "100ms"],
            capture_output=True, text=True, check=False, timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("no answer in time; the daemon may be waiting for its disk", done.stderr)
        self.assertEqual(relay.end(), 6)
        self.assertIn("ending without the disk", relay.log())
        self.assertEqual([name for name in os.listdir(relay.run_dir) if name.endswith(".sock")], [])
        self.faults.end()
        relay.start()
        self.assertEqual(relay.end(), 0)
        self.record("write-ahead log", "fdatasync never returns, stopping", "exit 6, not held up")


if __name__ == "__main__":
    unittest.main(verbosity=1)
