#!/usr/bin/env python3
"""Dead letters and purged lanes, end to end: the real daemon, the local upstream that refuses events,
and the commands an operator has, with the daemon and without it."""

import glob
import csv
import http.client
import io
import json
import os
import re
import subprocess
import unittest

from harness import DEADLINE, RELAY, RelayTest, UnixHttp, event, http_json, wait_for

ROOM = "spool:\n  dead_max_bytes: 64KiB\n"
NOBODY = 65534


class DeadTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()

    def opsrelay(self, *arguments, code=0):
        """(standard output, standard error) of a command that must end with `code`."""
        done = subprocess.run([RELAY, *arguments], capture_output=True, text=True, timeout=DEADLINE,
                              stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(done.returncode, code, done)
        return done.stdout, done.stderr

    def dead(self, relay, command, *arguments, code=0):
        return self.opsrelay("dead", command, "--run-dir", relay.run_dir, *arguments, code=code)

    def letters(self, relay, *filters):
        out, _ = self.dead(relay, "list", "--output", "json", *filters)
        return json.loads(out)["letters"]

    def refuse(self, relay, *events, fault="400"):
        """Each is refused by upstream, with a delivery after it, so that the lane stays active. The
        first events of this daemon."""
        for number, one in enumerate(events, 1):
            self.upstream.control(script=[fault])
            self.assertEqual(relay.post(one)[0], 200)
            self.wait_ledger(relay, dead=number)  # a status may be old, but not ahead
            relay.post(event())
            self.wait_ledger(relay, delivered=number, spooled=0)

    # --- With the daemon ---

    def test_a_refused_event_is_listed_shown_mended_and_delivered(self):
        relay = self.start_relay()
        self.refuse(relay, event("bad-1", model="gpt-0"))
        out, _ = self.dead(relay, "list")
        heading, row = out.splitlines()
        self.assertEqual(heading.split(), ["KEY", "TIME", "REASON", "BYTES", "ID"])
        key, time, reason, size, event_id = row.split()
        self.assertEqual((key, reason, event_id), ("upstream-0-1", "upstream_400", "bad-1"))
        self.assertRegex(time, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        letter, = self.letters(relay)
        self.assertEqual(list(letter), ["key", "kind", "lane", "time", "reason", "detail", "source",
                                        "id", "provider", "model", "bytes", "hash", "replayable",
                                        "event"])
        self.assertEqual((letter["kind"], letter["lane"], letter["bytes"], letter["replayable"],
                          letter["event"]), ("upstream", "default", int(size), True, None))
        out, _ = self.dead(relay, "show", key, "--output", "json")
        shown = json.loads(out)
        self.assertEqual(shown["event"]["externalRequestId"], "bad-1")
        self.assertTrue(shown["detail"])
        out, _ = self.dead(relay, "show", key)
        self.assertIn('"externalRequestId":"bad-1"', out.splitlines()[-1])

        # What the rules do not allow stays where it is.
        _, err = self.dead(relay, "replay", key, "--set", "inputTokens=-1", code=1)
        self.assertIn("upstream-0-1: bad_tokens: inputTokens: ", err)
        self.assertEqual(len(self.letters(relay)), 1)
        out, _ = self.dead(relay, "replay", key, "--set", "model=gpt-4o", "--set",
                           'metadata={"mended":true}')
        self.assertEqual(out, "1 put back, 0 left\n")
        self.wait_ledger(relay, accepted=2, delivered=2, dead=1, replayed=1, spooled=0)
        mended = [row for row in self.upstream.rows() if row["externalRequestId"] == "bad-1"]
        self.assertEqual([row["body"]["model"] for row in mended], ["gpt-4o"])
        self.assertEqual(self.dead(relay, "list")[0], "no dead letters\n")
        _, err = self.dead(relay, "replay", key, code=1)
        self.assertIn("no such letter", err)

    def test_rejected_events_come_back_once_they_keep_the_rules(self):
        relay = self.start_relay()
        self.assertEqual(relay.post(event("neg", inputTokens=-1))[0], 400)
        self.assertEqual(relay.post(event("who", provider=...))[0], 400)
        self.assertEqual(relay.post(b"{not json")[0], 400)
        wait_for(lambda: relay.status()["spool"]["dead_letters"] == 3, "three letters")
        by_reason = {letter["reason"]: letter for letter in self.letters(relay)}
        self.assertEqual(set(by_reason), {"bad_tokens", "missing_provider", "not_json"})
        self.assertFalse(by_reason["not_json"]["replayable"])
        out, err = self.dead(relay, "replay", "--all", code=1)
        self.assertEqual(out, "0 put back, 3 left\n")
        self.assertIn("its event was not kept", err)
        self.assertIn("missing_provider: ", err)
        out, err = self.dead(relay, "replay", "--all", "--kind", "admission", "--set",
                             "inputTokens=7", "--set", "provider=openai", code=1)
        self.assertEqual(out, "2 put back, 1 left\n")
        self.wait_ledger(relay, received=3, rejected=3, accepted=0, replayed=2, delivered=2)
        self.assertEqual(sorted(self.upstream.row_ids()), ["neg", "who"])

    def test_lists_are_paged_and_filtered(self):
        relay = self.start_relay()
        for number in range(7):
            relay.post(event(f"id-{number}", inputTokens=-1))
        relay.post(event("other", model=...))
        wait_for(lambda: relay.status()["spool"]["dead_letters"] == 8, "eight letters")
        out, _ = self.dead(relay, "list", "--limit", "3")
        self.assertEqual(len(out.splitlines()), 1 + 3 + 1)
        more = re.fullmatch(r"more: --after (\S+)", out.splitlines()[-1])
        self.assertIsNotNone(more, out)
        rest = self.letters(relay, "--after", more[1])
        self.assertEqual([letter["id"] for letter in rest], ["id-3", "id-4", "id-5", "id-6", "other"])
        self.assertEqual([letter["id"] for letter in self.letters(relay, "--reason", "missing_model")],
                         ["other"])
        self.assertEqual(self.letters(relay, "--kind", "upstream"), [])
        self.assertEqual(len(self.letters(relay, "--lane", "default")), 8)
        _, err = self.dead(relay, "list", "--lane", "nowhere", code=2)
        self.assertIn("lane nowhere is not in this spool", err)
        _, err = self.dead(relay, "list", "--kind", "everything", code=2)
        self.assertIn("kind must be admission or upstream", err)

    def test_export_and_purge(self):
        relay = self.start_relay()
        note = 'with "quotes", commas\nand lines'
        relay.post(event("neg", inputTokens=-1, metadata={"note": note}))
        self.refuse(relay, event("bad"), fault="422")
        out, _ = self.dead(relay, "export")
        lines = [json.loads(text) for text in out.splitlines()]
        self.assertEqual([one["id"] for one in lines], ["neg", "bad"])
        self.assertEqual(lines[0]["event"]["metadata"]["note"], note)
        out, _ = self.dead(relay, "export", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(out, newline="")))
        self.assertEqual(list(rows[0]), ["key", "kind", "lane", "time", "reason", "detail", "source",
                                         "id", "provider", "model", "bytes", "hash", "event"])
        self.assertEqual([row["reason"] for row in rows], ["bad_tokens", "upstream_422"])
        self.assertEqual(json.loads(rows[0]["event"])["metadata"]["note"], note)

        _, err = self.dead(relay, "purge", "--all", code=2)
        self.assertIn("--yes", err)
        _, err = self.dead(relay, "purge", "--yes", code=2)
        self.assertIn("give keys, or --all", err)
        out, _ = self.dead(relay, "purge", "--all", "--kind", "admission", "--yes")
        self.assertEqual(out, "1 purged\n")
        out, _ = self.dead(relay, "purge", lines[1]["key"], "--yes", "--output", "json")
        self.assertEqual(json.loads(out), {"purged": 1})
        self.assertEqual(self.letters(relay), [])
        self.assert_balanced(relay)

    def test_without_room_the_lane_parks_and_goes_on_with_room(self):
        relay = self.start_relay(config=ROOM)
        large = {"note": "x" * 30_000}
        self.refuse(relay, *(event(f"bad-{number}", metadata=large) for number in range(2)))
        self.upstream.control(script=["400"])
        relay.post(event("one-more", metadata=large))
        wait_for(lambda: relay.lane()["state"] == "dead_full", "the lane parks")
        relay.post(event("behind"))
        lane = relay.lane()
        self.assertEqual((lane["spooled"], lane["retry_at"], lane["last_error"]),
                         (2, None, "HTTP 400"))
        spool = relay.status()["spool"]
        self.assertLess(60_000, spool["dead_bytes"])
        self.assertLess(spool["dead_bytes"], spool["dead_limit"])
        self.assertEqual(spool["dead_limit"], 65536)
        self.assertEqual(relay.admin("/readyz")[0], 200)
        self.assertIn('opsrelay_lane_state{lane="default",state="dead_full"} 1',
                      relay.admin("/metrics")[1])
        self.assertIn("opsrelay dead purge", relay.log())
        self.assertIn("dead_full", self.opsrelay("status", "--run-dir", relay.run_dir)[0])
        self.wait_ledger(relay, dead=2, spooled=2)

        # After a start the lane does not know of the refusal, and delivers both.
        self.upstream.control(script=["400"])
        self.assertEqual(relay.end(), 0)
        relay.start()
        wait_for(lambda: relay.lane()["state"] == "dead_full", "the lane parks again")
        key = self.letters(relay)[0]["key"]
        self.dead(relay, "purge", key, "--yes")
        self.wait_ledger(relay, recovered=2, delivered=2, dead=0, spooled=0)
        self.assertEqual(relay.lane()["state"], "active")

    def test_changes_only_over_the_socket_and_only_by_those_who_may(self):
        relay = self.start_relay()
        port = int(re.search(r"type=admin address=127\.0\.0\.1:(\d+)", relay.log())[1])
        status, _, body = http_json(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE),
                                    "POST", "/dead/list", {})
        self.assertEqual((status, body["reason"]), (403, "only_over_admin_socket"))
        socket_path = os.path.join(relay.run_dir, "admin.sock")
        self.assertEqual(os.stat(socket_path).st_mode & 0o777, 0o600)
        for body, reason in (({"reasn": "x"}, "bad_request"), ([], "bad_request"),
                             ({"limit": 0}, "bad_request")):
            status, _, reply = http_json(UnixHttp(socket_path), "POST", "/dead/list", body)
            self.assertEqual((status, reply["reason"]), (400, reason))
        status, _, reply = http_json(UnixHttp(socket_path), "POST", "/dead/all", {})
        self.assertEqual((status, reply["reason"]), (404, "not_found"))
        if os.geteuid() != 0:
            return
        os.chmod(socket_path, 0o666)  # by mistake
        os.chmod(self.directory, 0o755)
        done = subprocess.run(
            ["python3", "-c", "import socket, sys; s = socket.socket(socket.AF_UNIX); "
             f"s.connect({socket_path!r}); s.sendall(b'GET /status HTTP/1.0\\r\\n\\r\\n'); "
             "sys.stdout.write(s.recv(4096).decode())"],
            user=NOBODY, capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertIn("403", done.stdout, done)
        self.assertIn("peer_not_allowed", done.stdout, done)

    # --- Without the daemon ---

    def test_everything_works_on_a_spool_that_no_daemon_has_open(self):
        relay = self.start_relay()
        offline = ("--spool-dir", relay.spool_dir)
        self.refuse(relay, event("bad-1"), event("bad-2"))
        relay.post(event("neg", inputTokens=-1))
        wait_for(lambda: relay.status()["spool"]["dead_letters"] == 3, "three letters")
        _, err = self.opsrelay("dead", "list", *offline, code=3)
        self.assertIn("another process has it open", err)
        self.assertEqual(relay.end(), 0)

        _, err = self.dead(relay, "list", code=1)
        self.assertIn("--spool-dir", err)
        out, err = self.opsrelay("dead", "list", "--output", "json", *offline)
        self.assertEqual([one["id"] for one in json.loads(out)["letters"]],
                         ["neg", "bad-1", "bad-2"])
        self.assertEqual(err, "")
        out, _ = self.opsrelay("dead", "show", "upstream-0-1", *offline)
        self.assertIn("bad-1", out)
        out, _ = self.opsrelay("dead", "replay", "upstream-0-1", "--set", "model=new", *offline)
        self.assertEqual(out, "1 put back, 0 left\n")
        out, _ = self.opsrelay("dead", "purge", "--all", "--reason", "bad_tokens", "--yes", *offline)
        self.assertEqual(out, "1 purged\n")
        out, _ = self.opsrelay("dead", "export", *offline)
        self.assertEqual([json.loads(text)["id"] for text in out.splitlines()], ["bad-2"])
        relay.start()
        self.wait_ledger(relay, recovered=1, delivered=1, spooled=0)
        self.assertEqual([row["body"]["model"] for row in self.upstream.rows()
                          if row["externalRequestId"] == "bad-1"], ["new"])
        self.assertEqual(len(self.letters(relay)), 1)

    def test_there_must_be_a_spool(self):
        missing = os.path.join(self.directory, "nothing")
        _, err = self.opsrelay("dead", "list", "--spool-dir", missing, code=4)
        self.assertIn("there is no spool", err)
        self.assertFalse(os.path.exists(missing))

    def test_a_spool_that_cannot_be_opened_stays_as_it_is(self):
        relay = self.start_relay()
        self.refuse(relay, event("bad-1"))
        wait_for(lambda: relay.status()["spool"]["dead_letters"] == 1, "a letter")
        self.assertEqual(relay.end(), 0)
        offline = ("--spool-dir", relay.spool_dir)
        database = os.path.join(relay.spool_dir, "db")
        os.remove(os.path.join(database, "CURRENT"))  # it is made again
        out, _ = self.opsrelay("dead", "export", *offline)
        self.assertIn("bad-1", out)

        os.remove(glob.glob(os.path.join(database, "MANIFEST-*"))[0])
        before = sorted(os.listdir(database))
        commands = (("dead", "list"), ("dead", "show", "upstream-0-1"), ("dead", "export"),
                    ("dead", "replay", "--all"), ("dead", "purge", "--all", "--yes"), ("pause",),
                    ("resume",), ("spool", "purge", "--lane", "default", "--yes"))
        for command in commands:
            _, err = self.opsrelay(*command, *offline, code=4)
            self.assertIn(relay.spool_dir, err)
            self.assertIn("opsrelay spool repair", err)
        self.assertEqual(sorted(os.listdir(database)), before)
        self.assertEqual(glob.glob(os.path.join(relay.spool_dir, "damaged-*")), [])
        os.remove(os.path.join(database, "CURRENT"))
        _, err = self.opsrelay("dead", "list", *offline, code=4)
        self.assertIn("opsrelay spool repair", err)

        _, _ = self.opsrelay("spool", "repair", "--write", *offline)
        out, _ = self.opsrelay("dead", "export", *offline)
        self.assertIn("bad-1", out)

    def test_purging_a_lane(self):
        relay = self.start_relay()
        self.upstream.control(down=True)
        relay.send_acked([event() for _ in range(30)])
        purge = ("spool", "purge", "--lane", "default")
        online = ("--run-dir", relay.run_dir)
        _, err = self.opsrelay(*purge, *online, code=2)
        self.assertIn("--yes", err)
        _, err = self.opsrelay(*purge, "--yes", "--configured", *online, code=1)
        self.assertIn("stop the daemon first", err)
        _, err = self.opsrelay("spool", "purge", "--lane", "elsewhere", "--yes", *online, code=1)
        self.assertIn('lane "elsewhere" is not in this spool; it has: default', err)
        self.wait_ledger(relay, accepted=30, spooled=30)
        self.assertEqual(relay.end(), 0)

        offline = ("--spool-dir", relay.spool_dir)
        _, err = self.opsrelay(*purge, "--yes", *offline, code=1)
        self.assertIn("add --configured", err)
        out, _ = self.opsrelay(*purge, "--yes", "--configured", *offline)
        self.assertEqual(out, "30 records of lane default purged\n")
        self.upstream.control(down=False)
        relay.start()
        self.wait_ledger(relay, recovered=0, spooled=0)
        relay.post(event("after"))
        self.wait_ledger(relay, accepted=1, delivered=1)
        self.assertEqual(self.upstream.row_ids(), ["after"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
