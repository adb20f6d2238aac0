#!/usr/bin/env python3
"""A spool that is full, for want of space on its volume or by its own limit: what was accepted is
kept and delivered, or given up as the configuration says, and counted. Nothing needs a restart."""

import base64
import contextlib
import glob
import os
import random
import shutil
import subprocess
import threading
import unittest

from acked_sender import AckedSender
from harness import DEADLINE, RELAY, RelayTest, event, in_threads, line, wait_for
from volumes import Volume, directory_bytes

KINDS = ("tmpfs", "ext4")


def large(event_id):
    """An event that does not compress."""
    noise = random.Random(event_id).randbytes(30_000)
    return event(event_id, padding=base64.b64encode(noise).decode())


class FullTest(RelayTest):
    MATRIX = "system/full_test"

    def start_on(self, kind, size_mib, **settings):
        """A daemon whose spool has a volume to itself."""
        name = f"{kind}-relay"
        volume = Volume(kind, os.path.join(self.directory, name, "spool"), size_mib)
        self.addCleanup(volume.close)
        return volume, self.start_relay(name=name, **settings)

    def reserve(self, relay):
        return relay.status()["spool"]["reserve"]

    def is_full(self, relay):
        with contextlib.suppress(OSError):
            return relay.admin("/readyz")[1]["reasons"] == ["spool_full"]
        return False

    def test_a_volume_that_somebody_else_fills_and_frees_again(self):
        for kind in KINDS:
            with self.subTest(volume=kind):
                self.fill_and_free(kind)

    def fill_and_free(self, kind):
        upstream = self.start_upstream()
        upstream.control(down=True)
        volume, relay = self.start_on(kind, 96)
        wait_for(lambda: self.reserve(relay) > 0, "a reserve is set aside")
        before = [event() for _ in range(1000)]
        self.assertEqual(relay.send_acked(before), (1000, 0))

        sender = AckedSender(relay.path("telemetry.stream.sock"), 1, large)
        def fill():
            wait_for(lambda: len(sender.acknowledged) > 50, "the sender is under way")
            volume.fill()
            wait_for(lambda: self.reserve(relay) == 0, "the reserve is given back")
            volume.fill()  # somebody takes that too
            wait_for(lambda: "spool_full" in relay.admin("/readyz")[1]["reasons"], "not ready")
            status, headers, body = relay.post(event())
            self.assertEqual((status, body["reason"]), (503, "spool_full"))
            self.assertEqual(headers["Retry-After"], "1")
            shed = relay.ledger()["shed"]
            for _ in range(20):
                relay.datagram(line(event()))  # the sender does not wait
            wait_for(lambda: relay.ledger()["shed"] == shed + 20, "the datagrams are counted")

            # Deliveries go on; that they are settled is kept in memory while it cannot be written.
            upstream.control(down=False)
            wait_for(lambda: relay.ledger()["spooled"] == 0, "everything durable is delivered")
            self.assertTrue(relay.running())
            volume.free()
            wait_for(relay.ready, "ready again")
            more = len(sender.acknowledged) + 100
            wait_for(lambda: len(sender.acknowledged) >= more, "the sender goes on")

        def fill_then_stop():
            try:
                fill()
            finally:
                sender.stop.set()

        in_threads([sender.run, fill_then_stop])
        ledger = self.wait_ledger(relay, spooled=0, pending=0)
        self.assertEqual(ledger["dropped"], 0)
        wait_for(lambda: self.reserve(relay) > 0, "the reserve is set aside again")
        rows = upstream.row_ids()
        wanted = sender.acknowledged | {one["externalRequestId"] for one in before}
        self.assertEqual(wanted - set(rows), set(), "acknowledged and missing")
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")
        self.assertEqual(relay.end(), 0)
        self.record(f"{kind} volume", "filled by others, then freed",
                    "HTTP 503, streams unread, datagrams shed; no restart, nothing accepted is lost")

    def test_a_volume_filled_by_the_spool_itself(self):
        """`refuse`: clients are told before the engine fails, and what was accepted arrives."""
        upstream = self.start_upstream()
        upstream.control(down=True)
        _, relay = self.start_on("tmpfs", 160)
        accepted = []
        status, body = 200, None
        while status == 200 and len(accepted) < 8000:
            one = large(f"own-{len(accepted)}")
            status, _, body = relay.post(one)
            if status == 200:
                accepted.append(one["externalRequestId"])
        self.assertEqual((status, body["reason"]), (503, "spool_full"))
        self.assertEqual(relay.admin("/readyz")[1]["reasons"], ["spool_full"])
        self.assertNotIn("commit refused", relay.log())
        upstream.control(down=False)
        self.wait_ledger(relay, spooled=0)
        wait_for(relay.ready, "ready again")
        self.assertEqual(relay.post(event())[0], 200)
        self.wait_ledger(relay, spooled=0, dropped=0)
        self.assertEqual(set(accepted) - set(upstream.row_ids()), set())
        self.assertEqual(relay.end(), 0)
        self.record("tmpfs volume", "filled by the spool, `refuse`",
                    "HTTP 503 before the engine fails; nothing accepted is lost")

    def test_a_full_spool_that_was_moved_aside_and_repaired_takes_in_again(self):
        upstream = self.start_upstream()
        upstream.control(down=True)
        relay = self.start_relay(config="spool: {max_bytes: 64MiB}\n")
        accepted = []
        while relay.post(one := large(f"aside-{len(accepted)}"))[0] == 200:
            accepted.append(one["externalRequestId"])
        relay.kill()
        for manifest in glob.glob(os.path.join(relay.spool_dir, "db", "MANIFEST-*")):
            os.remove(manifest)
        relay.start(ready=False)
        wait_for(lambda: self.is_full(relay), "it runs, full")
        self.assertEqual(len(relay.status()["spool"]["damaged"]), 1)
        self.assertIn("`opsrelay spool repair --write` takes back", relay.log())
        self.assertEqual(relay.end(), 0)
        done = subprocess.run([RELAY, "spool", "repair", "--write", "--spool-dir", relay.spool_dir],
                              capture_output=True, text=True, timeout=60, check=True)
        self.assertIn("deleted: all of it is in the spool", done.stdout)
        self.assertEqual(glob.glob(os.path.join(relay.spool_dir, "*-[0-9]*")), [])

        # One of which something could not be read.
        kept = os.path.join(relay.spool_dir, "repaired-1790000000000")
        os.mkdir(kept)
        with open(os.path.join(kept, "000009.sst"), "wb") as file:
            file.write(bytes(32 << 20))
        relay.start(ready=False)
        wait_for(lambda: self.is_full(relay), "it runs, full")
        upstream.control(down=False)
        self.wait_ledger(relay, spooled=0, dropped=0)
        self.assertEqual(set(accepted) - set(upstream.row_ids()), set())
        self.assertEqual(relay.admin("/readyz")[1]["reasons"], ["spool_full"])
        self.assertEqual(relay.status()["spool"]["repaired"], [kept])
        self.assertIn(f"nothing needs {kept} any more: look at it, then delete it", relay.log())
        status = subprocess.run([RELAY, "status", "--run-dir", relay.run_dir], capture_output=True,
                                text=True, timeout=60, check=False).stdout
        self.assertIn(f"{kept}\n    next: look at it, then delete it", status)
        shutil.rmtree(kept)
        wait_for(relay.ready, "ready again")
        self.assertEqual(relay.end(), 0)
        self.record("`spool.max_bytes`", "nearly full, then moved aside",
                    "`spool repair` takes everything back and deletes the copy; intake opens again")

    def test_drop_oldest_keeps_accepting_and_counts_what_it_gives_up(self):
        upstream = self.start_upstream()
        upstream.control(down=True)
        _, relay = self.start_on("tmpfs", 64, config="spool:\n  on_full: drop_oldest\n")
        sent = []

        def full():
            batch = [large(f"drop-{len(sent) + number}") for number in range(40)]
            durable, rejected = relay.send_acked(batch)
            self.assertEqual((durable, rejected), (40, 0))
            sent.extend(one["externalRequestId"] for one in batch)
            return relay.ledger()["dropped"] >= 200 or len(sent) > 6000

        wait_for(full, "the oldest are dropped")
        upstream.control(down=False)
        ledger = self.wait_ledger(relay, spooled=0, pending=0)
        self.assertEqual(ledger["shed"], 0)
        self.assertEqual(ledger["reasons"], {"dropped.oldest": ledger["dropped"]})
        self.assertIn(f'opsrelay_events_dropped_total{{reason="oldest"}} {ledger["dropped"]}',
                      relay.admin("/metrics")[1])
        rows = set(upstream.row_ids())
        missing = [one for one in sent if one not in rows]
        self.assertEqual(len(missing), ledger["dropped"])
        # Those in front, but for the few that were being sent.
        oldest = sent[:len(missing) + 8]
        self.assertEqual([one for one in missing if one not in oldest], [])
        self.assertEqual(relay.end(), 0)
        self.record("tmpfs volume", "filled by the spool, `drop_oldest`",
                    "goes on accepting; the oldest are given up, counted")

    def test_the_limit_holds_while_dead_letters_come_on_top(self):
        """Each takes as much as its record, which goes only when those before it have ended too."""
        limit = 64 << 20
        upstream = self.start_upstream("--ids-only")
        upstream.control(down=True)
        relay = self.start_relay(config="spool: {max_bytes: 64MiB}\n")
        stop = threading.Event()
        sizes = []
        parked = []  # the size of all letters, each time

        def watch():
            while not stop.wait(0.005):
                sizes.append(directory_bytes(relay.spool_dir))

        def delivered():
            if relay.lane()["state"] == "dead_full":
                parked.append(relay.status()["spool"]["dead_bytes"])
                subprocess.run([RELAY, "dead", "purge", "--all", "--yes", "--run-dir", relay.run_dir],
                               check=True, capture_output=True, timeout=DEADLINE)
            return relay.ledger()["spooled"] == 0

        def fill_and_refuse():
            try:
                for number in range(4000):
                    status, _, body = relay.post(large(f"limit-{number}"))
                    if status != 200:
                        break
                self.assertEqual((status, body["reason"]), (503, "spool_full"))
                upstream.control(down=False, rates={"400": 450})
                wait_for(delivered, "all is delivered or refused")
            finally:
                stop.set()

        in_threads([watch, fill_and_refuse])
        self.assertLess(max(sizes), limit)
        self.assertTrue(parked)
        self.assertLess(max(parked), relay.status()["spool"]["dead_limit"])
        ledger = self.wait_ledger(relay, spooled=0, dropped=0)
        self.assertGreater(ledger["dead"], 200)
        self.assertEqual(relay.end(), 0)
        self.record("`spool.max_bytes`", "reached, then many records refused by upstream",
                    "the directory is never larger than the limit")

    def test_volume_bytes_stands_for_a_volume_that_does_not_know_its_size(self):
        upstream = self.start_upstream()
        upstream.control(down=True)
        relay = self.start_relay(config="spool:\n  volume_bytes: 16MiB\n")
        for number in range(1000):
            status, _, body = relay.post(large(f"small-{number}"))
            if status != 200:
                break
        self.assertEqual((status, body["reason"]), (503, "spool_full"))
        self.assertLess(relay.status()["spool"]["bytes"], 16 << 20)
        upstream.control(down=False)
        self.wait_ledger(relay, spooled=0)
        wait_for(relay.ready, "ready again")
        self.assertEqual(relay.end(), 0)
        self.record("`spool.volume_bytes`", "reached", "HTTP 503 until there is room again")

    def test_what_is_too_old_is_given_up_and_counted(self):
        upstream = self.start_upstream()
        upstream.control(down=True)
        relay = self.start_relay(config="spool:\n  max_age: 1s\n")
        self.assertEqual(relay.send_acked([event() for _ in range(50)]), (50, 0))
        ledger = self.wait_ledger(relay, spooled=0, dropped=50)
        self.assertEqual(ledger["reasons"], {"dropped.expired": 50})
        self.assertEqual(relay.end(), 0)
        upstream.control(down=False)
        relay.start()  # without a backoff that is longer than the age
        self.assertEqual(relay.post(event("young"))[0], 200)
        self.wait_ledger(relay, spooled=0, delivered=1)
        self.assertEqual(upstream.row_ids(), ["young"])
        self.assertEqual(relay.end(), 0)
        self.record("`spool.max_age`", "reached", "given up, counted")


if __name__ == "__main__":
    unittest.main(verbosity=1)
