#!/usr/bin/env python3
"""Damages files of the spool between kill -9 and the next start: everything undamaged is delivered, what
is lost is counted, and the offline commands say and repair what they can."""

import glob
import json
import os
import subprocess
import unittest

from harness import RELAY, RelayTest, event

EVENTS = 1200


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x20]))


class DamageTest(RelayTest):
    MATRIX = "system/damage_test"

    def setUp(self):
        super().setUp()
        self.upstream = self.start_upstream()
        self.upstream.control(down=True)
        self.relay = self.start_relay()
        self.events = [event() for _ in range(EVENTS)]
        self.ids = {item["externalRequestId"] for item in self.events}
        for begin in range(0, EVENTS, 40):  # a commit each
            part = self.events[begin:begin + 40]
            self.assertEqual(self.relay.send_acked(part), (len(part), 0))

    def files(self, extension):
        return sorted(glob.glob(os.path.join(self.relay.spool_dir, "db", "*" + extension)),
                      key=os.path.getsize)

    def spool(self, command, *options):
        """Runs `opsrelay spool`; its exit code and output."""
        done = subprocess.run([RELAY, "spool", command, "--spool-dir", self.relay.spool_dir, *options],
                              capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def deliver(self):
        """Lets the daemon deliver all it has; the ids upstream has then, and the ledger."""
        self.upstream.control(down=False)
        ledger = self.wait_ledger(self.relay, spooled=0, pending=0)
        rows = self.upstream.row_ids()
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")
        self.assertEqual(set(rows) - self.ids, set(), "rows nobody sent")
        return set(rows), ledger

    def assert_delivered_but_lost(self, at_most):
        rows, ledger = self.deliver()
        lost = EVENTS - len(rows)
        self.assertEqual(ledger["dropped"], lost, ledger)
        self.assertLessEqual(lost, at_most)
        return lost

    def test_an_export_says_why_its_output_could_not_be_written(self):
        self.assertEqual(self.relay.end(), 0)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([RELAY, "spool", "export", "--spool-dir", self.relay.spool_dir],
                                  stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
                                  check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "opsrelay: standard output: No space left on device\n")

    def test_a_flipped_byte_in_the_log_costs_one_commit(self):
        self.relay.kill()
        log = self.files(".log")[-1]
        flip(log, os.path.getsize(log) // 2)
        self.assertEqual(self.spool("verify")[0], 1)
        self.relay.start()
        self.assert_delivered_but_lost(at_most=40)
        self.assertTrue(glob.glob(os.path.join(self.relay.spool_dir, "quarantine", "*", "*.log")))
        self.record("write-ahead log", "a flipped byte", "one commit lost and counted, the rest delivered")

    def test_a_log_cut_in_the_middle_is_delivered_up_to_there(self):
        self.relay.kill()
        log = self.files(".log")[-1]
        os.truncate(log, os.path.getsize(log) // 2)
        self.relay.start()
        rows, _ = self.deliver()
        self.assertGreater(len(rows), EVENTS // 4)
        # Senders that repeat what was not confirmed to them lose nothing.
        self.assertEqual(self.relay.send_acked(self.events), (EVENTS, 0))
        rows, _ = self.deliver()
        self.assertEqual(rows, self.ids)
        self.record("write-ahead log", "cut in the middle",
                    "delivered up to there; what is sent again is accepted")

    def test_a_missing_table_costs_what_it_held(self):
        self.assertEqual(self.relay.end(), 0)
        os.remove(self.files(".sst")[-1])  # the records: nothing else is that large
        code, text = self.spool("verify")
        self.assertEqual(code, 1)
        self.assertIn("No such file", text)
        self.assertEqual(self.spool("export"), (1, ""))
        self.relay.start()
        more = [event() for _ in range(10)]
        self.ids |= {item["externalRequestId"] for item in more}
        self.assertEqual(self.relay.send_acked(more), (10, 0))
        rows, ledger = self.deliver()
        self.assertEqual(rows, {item["externalRequestId"] for item in more})
        self.assertEqual(ledger["dropped"], EVENTS)
        self.record("table", "missing", "what it held lost and counted; goes on")

    def test_a_table_without_its_end_costs_nothing(self):
        self.assertEqual(self.relay.end(), 0)
        table = self.files(".sst")[-1]
        os.truncate(table, os.path.getsize(table) - 100)
        self.relay.start()
        self.assertEqual(self.assert_delivered_but_lost(at_most=0), 0)
        self.record("table", "without its end", "nothing lost")

    def test_what_cannot_be_opened_is_moved_aside_and_repaired(self):
        code, _ = self.spool("stat")
        self.assertEqual(code, 3, "a daemon has it open")
        self.relay.kill()
        for manifest in glob.glob(os.path.join(self.relay.spool_dir, "db", "MANIFEST-*")):
            os.remove(manifest)
        self.relay.start()
        self.assertEqual(self.relay.ledger()["recovered"], 0)
        fresh, repeated = event(), self.events[7]
        self.ids.add(fresh["externalRequestId"])
        self.assertEqual(self.relay.send_acked([fresh, repeated]), (2, 0))
        damaged = glob.glob(os.path.join(self.relay.spool_dir, "damaged-*"))
        self.assertEqual(len(damaged), 1)
        self.assertEqual(self.relay.status()["spool"]["damaged"], damaged)
        self.assertIn("opsrelay_spool_damaged 1\n", self.relay.admin("/metrics")[1])
        self.assertEqual(self.relay.end(), 0)

        self.assertEqual(self.spool("verify")[0], 1)
        exported = self.spool("export")[1].splitlines()
        self.assertEqual(len(exported), 2)
        done = subprocess.run([RELAY, "spool", "export", "--from", damaged[0]], capture_output=True,
                              text=True, timeout=60, check=True)
        self.assertEqual({json.loads(line)["externalRequestId"] for line in done.stdout.splitlines()},
                         {item["externalRequestId"] for item in self.events})

        self.assertEqual(self.spool("repair")[0], 0)
        self.assertTrue(os.path.exists(damaged[0]), "a dry run changed something")
        code, text = self.spool("repair", "--write", "--output", "json")
        self.assertEqual(code, 0)
        source = json.loads(text)["sources"][0]
        self.assertEqual((source["records"], source["admitted"], source["known"]),
                         (EVENTS, EVENTS - 1, 1))
        self.assertEqual((source["deleted"], source["kept_as"]), (True, None))
        self.assertEqual(glob.glob(os.path.join(self.relay.spool_dir, "*-[0-9]*")), [])
        self.assertEqual(self.spool("verify")[0], 0)
        self.assertEqual(json.loads(self.spool("stat", "--output", "json")[1])["lanes"][0]["records"],
                         EVENTS + 1)

        self.relay.start()
        rows, ledger = self.deliver()
        self.assertEqual(rows, self.ids)
        self.assertEqual(ledger["dropped"], 0)
        self.assertEqual(self.upstream.stats()["repeated"], 0)
        self.record("manifest", "missing",
                    "moved aside, an empty spool takes over; `spool repair` takes everything back")


if __name__ == "__main__":
    unittest.main(verbosity=1)
