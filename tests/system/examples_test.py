#!/usr/bin/env python3
"""Runs every program of proto/examples against the real daemon and looks for the rows: with the
daemon there, away, killed in between, and refusing to answer as it should."""

import collections
import contextlib
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from example_programs import EXAMPLES, command_of, need, outside_environment
from harness import DEADLINE, RELAY, RelayTest, event, line, wait_for

ACKED = {"emit.cpp": "telemetry.stream.sock", "emit.go": "telemetry.stream.sock",
         "stream.mjs": "telemetry.stream.sock"}
CONFIRMED = {**ACKED, "http.mjs": "http.sock"}
ALL = {**CONFIRMED, "emit.py": "telemetry.sock"}
PATIENCE = str(int(DEADLINE))  # seconds a client may wait at its end


def ids_of(events):
    return [one["externalRequestId"] for one in events]


class Client:
    """An example that runs, fed through its standard input."""

    def __init__(self, command, path, seconds=PATIENCE):
        self.child = subprocess.Popen([*command, path, seconds], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      env=outside_environment())
        self.input = queue.Queue()  # b"": its end
        self.feeder = threading.Thread(target=self.run_feeder, daemon=True)
        self.feeder.start()

    def run_feeder(self):
        with contextlib.suppress(BrokenPipeError), self.child.stdin as pipe:
            while data := self.input.get():
                pipe.write(data)
                pipe.flush()
                self.input.task_done()

    def feed(self, events):
        """Does not wait for the client, which may wait for the daemon."""
        self.input.put(b"".join(line(one) for one in events))

    def finish(self):
        """(exit status, its counts by name)."""
        self.input.put(b"")
        self.child.wait(3 * DEADLINE)
        output = self.child.stdout.read().decode()  # a line or two
        counts = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", output)}
        if "dropped" not in counts:
            raise AssertionError(f"{self.child.args}: {output}")
        return self.child.returncode, counts

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self.input.put(b"")
        self.feeder.join(DEADLINE)
        self.child.stdout.close()


class ExamplesTest(RelayTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.programs = tempfile.mkdtemp()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.programs)
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.start_upstream()

    def client(self, name, path, seconds=PATIENCE):
        made = Client(command_of(name, self.programs), path, seconds)
        self.addCleanup(made.kill)
        return made

    def assert_rows(self, events):
        """Exactly one row an event, of all rows of the upstream."""
        wanted = set(ids_of(events))
        wait_for(lambda: wanted <= set(self.upstream.row_ids()), f"{len(wanted)} rows")
        again = [one for one, rows in collections.Counter(self.upstream.row_ids()).items()
                 if rows > 1]
        self.assertEqual(again, [])

    # --- The daemon is there ---

    def test_every_event_becomes_a_row(self):
        relay = self.start_relay()
        for name, sock in ALL.items():
            with self.subTest(name):
                events = [event() for _ in range(300)]
                client = self.client(name, relay.path(sock))
                client.feed(events)
                status, counts = client.finish()
                self.assertEqual(status, 0, counts)
                self.assertEqual(counts.pop("durable", 0) + counts.pop("sent", 0), 300)
                self.assertEqual(sum(counts.values()), 0, counts)
                self.assert_rows(events)
        ledger = self.wait_ledger(relay, delivered=300 * len(ALL), spooled=0)
        self.assertEqual(ledger["duplicates"], 0)

    def test_what_breaks_the_contract_is_told(self):
        relay = self.start_relay()
        bad, good = event(model=...), event()
        for name, sock in CONFIRMED.items():
            with self.subTest(name):
                client = self.client(name, relay.path(sock))
                client.feed([bad, good, bad])
                self.assertEqual(client.finish(), (0, {"durable": 1, "rejected": 2, "dropped": 0}))
        self.assert_rows([good])

    def test_blank_lines_are_no_events(self):
        relay = self.start_relay()
        for name, sock in ALL.items():
            with self.subTest(name):
                client = self.client(name, relay.path(sock))
                client.input.put(b"\n  \n" + line(event()) + b"\n")
                status, counts = client.finish()
                self.assertEqual(status, 0)
                self.assertEqual(sum(counts.values()), 1, counts)

    # --- It is not ---

    def test_a_daemon_that_starts_later(self):
        for name, sock in ALL.items():
            with self.subTest(name):
                events = [event() for _ in range(50)]
                path = os.path.join(self.directory, name, "run", sock)
                client = self.client(name, path)
                client.feed(events)
                self.start_relay(name=name)
                status, counts = client.finish()
                self.assertEqual((status, counts["dropped"]), (0, 0), counts)
                self.assert_rows(events)

    def test_a_daemon_that_never_starts_costs_no_more_than_the_wait(self):
        for name, sock in ALL.items():
            with self.subTest(name):
                client = self.client(name, os.path.join(self.directory, sock), "0.3")
                client.feed([event() for _ in range(20)])
                status, counts = client.finish()
                self.assertEqual((status, counts["dropped"]), (1, 20), counts)

    def test_kills_lose_nothing_that_is_kept_until_it_is_settled(self):
        relay = self.start_relay()
        for name, sock in CONFIRMED.items():
            with self.subTest(name):
                events = [event() for _ in range(600)]
                client = self.client(name, relay.path(sock))
                for begin in range(0, 600, 200):
                    client.feed(events[begin:begin + 100])
                    relay.kill()
                    client.feed(events[begin + 100:begin + 200])
                    relay.start()
                status, counts = client.finish()
                self.assertEqual((status, counts["dropped"], counts["rejected"]), (0, 0, 0), counts)
                self.assertEqual(counts["durable"], 600)
                self.assert_rows(events)

    def test_datagrams_that_a_restart_refuses_are_sent_to_the_next_daemon(self):
        relay = self.start_relay()
        events = [event() for _ in range(300)]
        client = self.client("emit.py", relay.path("telemetry.sock"))
        for begin in range(0, 300, 100):
            client.feed(events[begin:begin + 50])
            self.assertEqual(relay.end(), 0)
            client.feed(events[begin + 50:begin + 100])
            relay.start()
        self.assertEqual(client.finish(), (0, {"sent": 300, "dropped": 0}))
        self.assert_rows(events)

    def test_what_the_buffer_does_not_hold_is_counted_by_the_client_and_the_daemon(self):
        more = 12_000  # of 330 bytes: above 10,000 events and above 1 MiB
        events = [event() for _ in range(more)]
        for name, sock in {**ACKED, "emit.py": ALL["emit.py"]}.items():
            with self.subTest(name):
                path = os.path.join(self.directory, name, "run", sock)
                client = self.client(name, path)
                client.feed(events)
                wait_for(lambda fed=client.input: not fed.unfinished_tasks, "the client has read")
                relay = self.start_relay(name=name)
                status, counts = client.finish()
                self.assertEqual(status, 1)
                self.assertGreater(counts["dropped"], 0)
                self.assertEqual(sum(counts.values()), more, counts)
                ledger = self.wait_ledger(relay, received=more - counts["dropped"])
                self.assertEqual(ledger["duplicates"], 0)
                _, metrics = relay.admin("/metrics")
                self.assertIn(f"opsrelay_client_dropped_total {counts['dropped']}\n", metrics)

    # --- It is there and misbehaves ---

    def serve(self, path, scripts):
        """A stream server. A script a connection: what follows each event; when
        they are used up the connection ends. Returns the events of each connection."""
        seen = []
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.settimeout(DEADLINE)
        listener.bind(path)
        listener.listen()
        self.addCleanup(listener.close)

        def run():
            for answers in scripts:
                connection, _ = listener.accept()
                connection.settimeout(DEADLINE)
                with connection, connection.makefile("rb") as reader:
                    self.assertEqual(reader.readline(), b'{"opsrelay":{"acks":true}}\n')
                    seen.append([])
                    for answer in answers:
                        seen[-1].append(json.loads(reader.readline())["externalRequestId"])
                        with contextlib.suppress(BrokenPipeError):  # it may know enough already
                            connection.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return seen, thread

    def test_after_a_broken_connection_only_the_rest_is_sent_again(self):
        for name in ACKED:
            with self.subTest(name):
                command = command_of(name, self.programs)
                events = [event(f"{name}-{number}") for number in range(5)]
                path = os.path.join(self.directory, name + ".sock")
                seen, thread = self.serve(path, [
                    [b'{"durable":1,"rejected":0}\n', b'{"durable":1,"rejected":1}\n',
                     b'{"durable":'],
                    [b'{"durable":1,"rejected":0}\n', b"<html>nonsense</html>\n"],
                    [b'{"durable":1,"rejected":0}\n', b'{"durable":1,"rejected":1}\n'],
                ])
                client = Client(command, path)
                self.addCleanup(client.kill)
                client.feed(events)
                status, counts = client.finish()
                thread.join(DEADLINE)
                self.assertEqual((status, counts), (0, {"durable": 3, "rejected": 2, "dropped": 0}))
                ids = ids_of(events)
                self.assertEqual(seen, [ids[:3], ids[2:4], ids[3:]])

    # --- The shell's ---

    def shell(self, relay, way, events):
        tools = os.path.join(self.directory, "bin")
        os.makedirs(tools, exist_ok=True)
        if not os.path.exists(os.path.join(tools, "opsrelay")):
            os.symlink(os.path.abspath(RELAY), os.path.join(tools, "opsrelay"))
        return subprocess.run(
            [os.path.join(EXAMPLES, "send.sh"), way], check=False, timeout=DEADLINE,
            input=b"".join(line(one) for one in events), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**outside_environment(), "RUN": relay.run_dir,
                 "PATH": tools + os.pathsep + os.environ["PATH"]})

    def test_every_way_of_the_shell(self):
        relay = self.start_relay()
        for way, program in (("opsrelay", "sh"), ("curl", "curl"), ("stream", "socat"),
                             ("datagram", "socat")):
            with self.subTest(way):
                need(program)
                events = [event() for _ in range(10)]
                done = self.shell(relay, way, events)
                self.assertEqual(done.returncode, 0, done.stdout)
                if way == "curl":
                    results = json.loads(done.stdout)["results"]
                    self.assertEqual([one["status"] for one in results], [200] * 10)
                self.assert_rows(events)

    def test_the_shell_learns_that_nobody_is_there(self):
        relay = self.start_relay()
        relay.end()
        for way, program in (("opsrelay", "sh"), ("stream", "socat"), ("datagram", "socat")):
            with self.subTest(way):
                need(program)
                self.assertNotEqual(self.shell(relay, way, [event()]).returncode, 0)
        self.assertEqual(self.shell(relay, "pigeon", []).returncode, 2)

    def test_every_example_is_run_here(self):
        files = {name for name in os.listdir(EXAMPLES) if not name.startswith("__")}
        self.assertEqual(files, {*ALL, "send.sh", "opsrelay_emitter.h", "README.md"})


if __name__ == "__main__":
    unittest.main(verbosity=1)
