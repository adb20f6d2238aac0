#!/usr/bin/env python3
"""The official SDKs against the real daemon: their HTTP stacks driven as they drive them, and the
packages themselves where they can be had. Whatever goes wrong in between, an event that the SDK was
told is taken becomes one row, and with the same id sent again never two.

    sdk_test.py [stacks|official_python|official_node]

Exit status 77: all that was asked for could not be run; the output says why."""

import collections
import glob
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import unittest
import uuid

from example_programs import need
from faults import Fault, Faults
from harness import BUILD, DEADLINE, RelayTest, event, line, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
LOG = "*/db/*.log"
EVENTS = 300
WHEELS = os.path.join(BUILD, "..", "sdk", "opsmeter_io_sdk-*.whl")  # ./dev test puts it there
ESTABLISHED = "01"  # in /proc/net/tcp


class Sender:
    """A program that sends; its attempts as it prints them."""

    def __init__(self, command, ids):
        self.attempts = []
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        with self.child.stdin as pipe:
            pipe.write("\n".join(ids).encode())

    def read(self):
        for text in self.child.stdout:
            self.attempts.append(json.loads(text))

    def seen(self, status):
        return any(one["status"] == status for one in list(self.attempts))

    def finish(self):
        self.child.wait(4 * DEADLINE)
        self.reader.join(DEADLINE)
        if self.child.returncode != 0:
            last = collections.Counter(one["status"] for one in self.attempts)
            raise AssertionError(f"{self.child.args}: {last} {self.child.stderr.read().decode()}")

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self.reader.join(DEADLINE)
        self.child.stdout.close()
        self.child.stderr.close()


def connections_to(port):
    """Established connections whose server is this port of 127.0.0.1."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [row.split() for row in table.readlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == ESTABLISHED for row in rows)


class SdkTest(RelayTest):
    """What every way of sending must withstand. `command` has the program, less the URL."""

    def setUp(self):
        super().setUp()
        self.start_upstream()
        self.faults = Faults(self.directory)

    def start(self, ack_timeout, config=""):
        self.relay = self.start_relay(config=config, environment={
            **self.faults.environment, "OPSRELAY_HTTP__ACK_TIMEOUT": ack_timeout})
        self.port = self.relay.port("http")

    def sender(self, command, count=EVENTS):
        self.ids = [str(uuid.uuid4()) for _ in range(count)]
        url = f"http://127.0.0.1:{self.port}"
        made = Sender([url if part == "URL" else part for part in command], self.ids)
        self.addCleanup(made.kill)
        return made

    def assert_one_row_each(self, sender):
        sender.finish()
        told = {one["id"] for one in sender.attempts if one["ok"]}
        self.assertEqual(told, set(self.ids), "the SDK was told of every event")
        ledger = self.wait_ledger(self.relay, pending=0, spooled=0)
        self.assertEqual(ledger["rejected"], 0)
        rows = collections.Counter(self.upstream.row_ids())
        self.assertEqual({one: rows[one] for one in self.ids}, dict.fromkeys(self.ids, 1))
        self.assertEqual(self.upstream.stats()["repeated"], 0, "nothing was sent upstream twice")
        return ledger

    def all_is_well(self, command):
        self.start("400ms")
        self.assert_one_row_each(self.sender(command))

    def not_confirmed_then_sent_again(self, command):
        """No sync returns for a while: 503 within the SDK's 600 ms."""
        self.start("400ms")
        self.faults.begin(Fault("fdatasync", LOG, "stall"))
        sender = self.sender(command, 100)
        wait_for(lambda: sender.seen(503), "a 503")
        self.faults.end()
        self.assertGreater(self.assert_one_row_each(sender)["duplicates"], 0)

    def no_answer_in_time_then_sent_again(self, command):
        """The SDK gives up at 600 ms; its second try meets the first."""
        self.start("30s")
        self.faults.begin(Fault("fdatasync", LOG, "stall"))
        sender = self.sender(command, 100)
        wait_for(lambda: sender.seen(0), "an exchange without an answer")
        self.faults.end()
        self.assertGreater(self.assert_one_row_each(sender)["duplicates"], 0)

    def shed_then_sent_again(self, command):
        """There is no room for a while: 503, and nothing of it is kept."""
        self.start("400ms", "memory: {stall_buffer: 1MiB}\n")
        self.faults.begin(Fault("fdatasync", LOG, "stall"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE)
            client.connect(self.relay.path("telemetry.sock"))
            for _ in range(100):  # three times what there is room for
                client.send(line(event(padding="x" * 30000)))
        sender = self.sender(command, 100)
        wait_for(lambda: sender.seen(503), "a 503")
        self.faults.end()
        self.assertGreater(self.assert_one_row_each(sender)["shed"], 0)


class Stacks(SdkTest):
    """The stacks alone."""

    FETCH = ["node", os.path.join(HERE, "sdk_client.mjs"), "URL"]

    def python(self, stack):
        if stack != "urllib" and importlib.util.find_spec("requests") is None:
            print("NOT RUN: Python's requests is not installed (python3-requests)", flush=True)
            self.skipTest("no requests")
        return [sys.executable, os.path.join(HERE, "sdk_client.py"), stack, "URL"]

    def test_fetch(self):
        need("node")
        self.all_is_well(self.FETCH)

    def test_fetch_on_a_hundred_connections(self):
        need("node")
        self.start("30s")
        self.faults.begin(Fault("fdatasync", LOG, "stall"))
        sender = self.sender(self.FETCH)
        wait_for(lambda: connections_to(self.port) >= 99, "99 connections at once")
        self.faults.end()
        self.assert_one_row_each(sender)

    def test_fetch_and_503(self):
        need("node")
        self.not_confirmed_then_sent_again(self.FETCH)

    def test_fetch_and_no_answer(self):
        need("node")
        self.no_answer_in_time_then_sent_again(self.FETCH)

    def test_fetch_and_no_room(self):
        need("node")
        self.shed_then_sent_again(self.FETCH)

    def test_urllib(self):
        self.all_is_well(self.python("urllib"))

    def test_urllib_and_503(self):
        self.not_confirmed_then_sent_again(self.python("urllib"))

    def test_urllib_and_no_answer(self):
        self.no_answer_in_time_then_sent_again(self.python("urllib"))

    def test_urllib_and_no_room(self):
        self.shed_then_sent_again(self.python("urllib"))

    def test_requests(self):
        self.all_is_well(self.python("requests"))

    def test_requests_and_503(self):
        self.not_confirmed_then_sent_again(self.python("requests"))

    def test_requests_on_kept_connections(self):
        self.all_is_well(self.python("session"))

    def test_requests_on_kept_connections_and_no_answer(self):
        self.no_answer_in_time_then_sent_again(self.python("session"))


class OfficialPython(SdkTest):
    """opsmeter-io-sdk itself."""

    @classmethod
    def setUpClass(cls):
        wheels = glob.glob(WHEELS)
        if not wheels:
            raise unittest.SkipTest("NOT RUN: opsmeter-io-sdk is not in build/sdk; ./dev test puts "
                                    "it there when PyPI can be reached")
        super().setUpClass()
        cls.command = [sys.executable, os.path.join(HERE, "sdk_client.py"), wheels[0], "URL"]

    def test_all_is_well(self):
        self.all_is_well(self.command)

    def test_503(self):
        self.not_confirmed_then_sent_again(self.command)

    def test_no_answer(self):
        self.no_answer_in_time_then_sent_again(self.command)

    def test_no_room(self):
        self.shed_then_sent_again(self.command)


class OfficialNode(SdkTest):
    """@opsmeter.io/node itself, of which RELAYTEST_NODE_SDK names src/index.mjs."""

    @classmethod
    def setUpClass(cls):
        sdk = os.environ.get("RELAYTEST_NODE_SDK")
        if not sdk:
            raise unittest.SkipTest("NOT RUN: npm has no @opsmeter.io/node (it answers 404); set "
                                    "RELAYTEST_NODE_SDK to src/index.mjs of a copy to run it")
        need("node")
        super().setUpClass()
        cls.command = [*Stacks.FETCH, os.path.abspath(sdk)]

    def test_all_is_well(self):
        self.all_is_well(self.command)

    def test_503(self):
        self.not_confirmed_then_sent_again(self.command)

    def test_no_answer(self):
        self.no_answer_in_time_then_sent_again(self.command)

    def test_no_room(self):
        self.shed_then_sent_again(self.command)


GROUPS = {"stacks": Stacks, "official_python": OfficialPython, "official_node": OfficialNode}

if __name__ == "__main__":
    chosen = [GROUPS[name].__name__ for name in sys.argv[1:]]
    result = unittest.main(argv=[sys.argv[0], *chosen], verbosity=1, exit=False).result
    for _, reason in result.skipped:
        print(reason)
    if result.skipped and len(result.skipped) >= result.testsRun and result.wasSuccessful():
        sys.exit(77)
    sys.exit(not result.wasSuccessful())
