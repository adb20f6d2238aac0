#!/usr/bin/env python3
"""Sockets and restarts: held by a parent, as systemd's socket units do, nothing that a client sent
is lost; made by the daemon, every client knows what it could not send, and comes back."""

import collections
import contextlib
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import unittest

from example_programs import EXAMPLES
from harness import (DEADLINE, RELAY, Process, RelayTest, StreamClient, event, http_json, line,
                     wait_for)
from held_sockets import HeldSockets

sys.path.insert(0, EXAMPLES)
from emit import Emitter  # noqa: E402 (the client that proto/examples tells to copy)

LONG = os.environ.get("RELAYTEST_LONG") == "1"
RESTARTS = int(os.environ.get("RELAYTEST_RESTARTS", "1000" if LONG else "20"))
CLIENTS = 3
PACE = 0.005  # seconds between two events of a client
# What a client of a Unix datagram socket may be told: full, nobody there, no path, going away.
TOLD = (BlockingIOError, ConnectionRefusedError, FileNotFoundError, BrokenPipeError)


UDP_QUEUE_BYTES = 50_000  # half of what a socket gets by default; a full one drops, as it may


def udp_queue_bytes(port):
    """What waits in the kernel for whoever reads the UDP socket of this port (proc_net(5))."""
    with open("/proc/net/udp", encoding="ascii") as file:
        for fields in map(str.split, file):
            if fields[1].endswith(f":{port:04X}"):
                return int(fields[4].split(":")[1], 16)
    raise AssertionError(f"nobody has UDP port {port}")


class Fire:
    """Clients that send until stop(), each in a thread of its own."""

    def __init__(self, send_one, clients=CLIENTS):
        self.stopped = threading.Event()
        self.errors = []
        self.ids = [[] for _ in range(clients)]  # what each has handed over
        self.threads = [threading.Thread(target=self.run, args=(send_one, number), daemon=True)
                        for number in range(clients)]
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


class SocketsTest(RelayTest):
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


class AckedClient:
    """Sends a line at a time until it is settled; over a new connection when the daemon ends."""

    def __init__(self, path):
        self.path = path
        self.stream = None

    def send(self, data):
        while True:
            try:
                if self.stream is None:
                    self.stream = StreamClient(self.path)
                settled = self.stream.durable + self.stream.rejected
                self.stream.send(data + b"\n")
                self.stream.wait_settled(settled + 1)
                return True
            except ConnectionRefusedError:
                raise  # the parent holds the socket
            except ConnectionError:
                self.close()

    def close(self):
        if self.stream is not None:
            self.stream.socket.close()
        self.stream = None


class HeldByAParent(SocketsTest):
    def setUp(self):
        super().setUp()
        self.sockets = HeldSockets()
        self.addCleanup(self.sockets.close)
        self.run_dir = os.path.join(self.directory, "relay", "run")
        os.makedirs(self.run_dir)
        self.options = []

    def path(self, name):
        return os.path.join(self.run_dir, name)

    def hold_unix(self, kind, name):
        self.sockets.unix(kind, self.path(name))
        return self.path(name)

    def hold_ip(self, kind, flag):
        """The port, which the daemon is told too."""
        port = self.sockets.ip(kind)
        self.options += [flag, str(port)]
        return port

    def start(self, **how):
        return self.start_relay(*self.options, sockets=self.sockets, **how)

    def post(self, port, body):
        return http_json(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE), "POST",
                         "/v1/ingest/llm-request", body)[0]

    def post_until_taken(self, port, body):
        """The daemon may end in between; that nobody listens is an error."""
        while True:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError,
                                     http.client.RemoteDisconnected):
                if self.post(port, body) == 200:
                    return True

    def test_restarts_under_fire_lose_nothing(self):
        datagrams = self.hold_unix(socket.SOCK_DGRAM, "telemetry.sock")
        stream = AckedClient(self.hold_unix(socket.SOCK_STREAM, "telemetry.stream.sock"))
        self.addCleanup(stream.close)
        udp_port = self.hold_ip(socket.SOCK_DGRAM, "--udp-port")
        http_port = self.hold_ip(socket.SOCK_STREAM, "--http-port")
        relay = self.start()
        clients = []
        for family, address in [(socket.AF_UNIX, datagrams)] * CLIENTS + [
                (socket.AF_INET, ("127.0.0.1", udp_port))]:  # connected once, for all daemons
            client = socket.socket(family, socket.SOCK_DGRAM)
            client.settimeout(DEADLINE)
            client.connect(address)
            self.addCleanup(client.close)
            clients.append(client)

        def send(number, data):
            if number == CLIENTS and udp_queue_bytes(udp_port) > UDP_QUEUE_BYTES:
                return False
            if number < len(clients):
                clients[number].send(data)  # waits while the queue is full and no daemon reads
                return True
            if number == len(clients):
                return stream.send(data)
            return self.post_until_taken(http_port, data)

        begin = time.monotonic()
        fire = Fire(send, len(clients) + 2)
        self.restart_under(fire, relay)
        ids = fire.stop()
        shares = [len(one) for one in fire.ids]
        print(f"{RESTARTS} restarts in {time.monotonic() - begin:.0f} s under {len(ids)} events: "
              f"{sum(shares[:CLIENTS])} datagrams, UDP, stream and HTTP {shares[CLIENTS:]}")
        self.assertTrue(all(shares), shares)
        self.assert_exactly(relay, ids)
        self.assertEqual([one["kernel_drops"] for one in relay.status()["listeners"]], [0] * 4)
        self.assertTrue(os.path.exists(datagrams))

    def test_sockets_are_told_apart_by_address_and_type(self):
        stream = self.hold_unix(socket.SOCK_STREAM, "telemetry.stream.sock")
        udp = self.hold_ip(socket.SOCK_DGRAM, "--udp-port")
        datagrams = self.hold_unix(socket.SOCK_DGRAM, "telemetry.sock")
        http_port = self.hold_ip(socket.SOCK_STREAM, "--http-port")
        relay = self.start()
        listeners = relay.status()["listeners"]
        self.assertEqual({(one["type"], one["address"], one["inherited"]) for one in listeners},
                         {("unix_stream", stream, True), ("udp", f"127.0.0.1:{udp}", True),
                          ("unix_datagram", datagrams, True),
                          ("http", f"127.0.0.1:{http_port}", True)})
        self.assertFalse(os.path.exists(self.path("http.sock")), "a default, and not inherited")
        relay.datagram(line(event("datagram")))
        relay.udp(line(event("udp")), udp)
        self.assertEqual(relay.send_acked([event("stream")]), (1, 0))
        self.assertEqual(self.post(http_port, line(event("http"))), 200)
        self.assert_exactly(relay, ["datagram", "udp", "stream", "http"])
        self.assertEqual(relay.end(), 0)
        # Connections and datagrams of the time without a daemon are the next one's.
        with StreamClient(stream) as client:
            client.send(line(event("between")))
            relay.start()
            self.assertEqual(client.finish(), (1, 0))

    def test_admin_and_metrics_sockets(self):
        admin = self.hold_ip(socket.SOCK_STREAM, "--admin-port")
        metrics = self.sockets.ip(socket.SOCK_STREAM)
        local = self.hold_unix(socket.SOCK_STREAM, "admin.sock")
        relay = self.start(config=f"metrics: {{address: '127.0.0.1:{metrics}'}}\n"
                                  "listeners: [{type: unix_datagram, path: telemetry.sock}]\n")
        self.assertEqual(relay.admin("/livez")[0], 200)
        for port, path, status in ((admin, "/status", 200), (metrics, "/metrics", 200),
                                   (metrics, "/status", 404)):
            answer = http_json(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE),
                               "GET", path)
            self.assertEqual(answer[0], status, (port, path))
        self.assertEqual(relay.end(), 0)
        self.assertTrue(os.path.exists(local))
        relay.start()
        self.assertEqual(relay.admin("/livez")[0], 200)

    def test_the_commands_know_that_sockets_are_inherited(self):
        self.hold_unix(socket.SOCK_DGRAM, "telemetry.sock")
        os.chmod(self.path("telemetry.sock"), 0o600)  # the parent's to decide
        relay = self.start()
        # doctor shares the daemon's configuration; its ports are free ones, and so configured.
        done = subprocess.run([RELAY, "doctor", "--output", "json", *relay.arguments[2:]],
                              capture_output=True, text=True, check=False, timeout=DEADLINE)
        found = {one["detail"]: one["result"] for one in json.loads(done.stdout)["checks"]
                 if one["check"].startswith("listener.unix")}
        self.assertEqual(found, {
            f"{self.path('telemetry.sock')}: reachable, mode 0600, inherited": "ok",
            f"{self.path('telemetry.stream.sock')}: off, the daemon's sockets are inherited and "
            "this is not among them": "ok"})
        done = subprocess.run([RELAY, "status", "--run-dir", self.run_dir], capture_output=True,
                              text=True, check=True, timeout=DEADLINE)
        self.assertIn("received, inherited", done.stdout)

    def test_a_configured_listener_that_is_not_inherited_is_made(self):
        self.hold_unix(socket.SOCK_DGRAM, "telemetry.sock")
        relay = self.start(config=(
            "listeners:\n- {type: unix_datagram, path: telemetry.sock}\n"
            "- {type: unix_stream, path: mine.sock}\n"))
        self.assertTrue(os.path.exists(self.path("mine.sock")))
        self.assertEqual(relay.end(), 0)
        self.assertFalse(os.path.exists(self.path("mine.sock")), "ours, removed at the end")
        self.assertTrue(os.path.exists(self.path("telemetry.sock")), "the parent's")

    def test_a_reload_does_not_turn_on_what_stayed_off(self):
        self.hold_unix(socket.SOCK_DGRAM, "telemetry.sock")
        self.options += ["--http-port", "off", "--udp-port", "off"]
        relay = self.start()
        with open(relay.config_file, "w", encoding="utf-8") as file:
            file.write("listeners:\n- {type: unix_datagram, path: telemetry.sock}\n"
                       "- {type: unix_stream, path: telemetry.stream.sock}\n"
                       "- {type: http, path: http.sock}\n")
        done = subprocess.run([RELAY, "reload", "--run-dir", self.run_dir], capture_output=True,
                              text=True, check=False, timeout=DEADLINE)
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("listeners[1]: by default it stayed off", done.stderr)

    def test_sockets_that_cannot_be_taken(self):
        relay = self.start_relay()
        self.assertEqual(relay.end(), 0)
        other = os.path.join(self.directory, "other.sock")
        self.sockets.unix(socket.SOCK_DGRAM, other)
        relay.sockets = self.sockets
        relay.start(ready=False)
        self.assertEqual(relay.wait(), 2)
        self.assertIn(f'belongs to no listener: datagram socket {other} \\"held-0\\"', relay.log())
        # One more than there are.
        command = self.sockets.command(relay.arguments, count=2)
        more = Process(command, os.path.join(self.directory, "more.log"), relay.environment,
                       descriptors=self.sockets.descriptors)
        self.processes.append(more)
        self.assertEqual(more.wait(), 2)
        self.assertIn("LISTEN_FDS=2: descriptor 4", more.log())

    def test_sockets_for_another_process_are_not_taken(self):
        relay = self.start_relay()
        self.assertEqual(relay.end(), 0)
        self.sockets.unix(socket.SOCK_DGRAM, self.path("telemetry.sock.other"))
        command = self.sockets.command(relay.arguments, pid="1")
        other = Process(command, os.path.join(self.directory, "other.log"), relay.environment,
                        descriptors=self.sockets.descriptors)
        self.processes.append(other)
        wait_for(relay.ready, "ready, with sockets of its own")
        self.assertEqual(len(relay.status()["listeners"]), 5)
        self.assertIn("LISTEN_FDS is meant for another process", other.log())


class MadeByTheDaemon(SocketsTest):
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

    def test_admin_sock_and_the_run_directory_are_made_again(self):
        relay = self.start_relay()
        names = ("admin.sock", "http.sock", "telemetry.sock", "telemetry.stream.sock")
        for remove in (lambda: os.unlink(relay.path("admin.sock")),
                       lambda: os.rename(relay.run_dir, relay.run_dir + ".gone")):
            remove()
            wait_for(lambda: all(os.path.exists(relay.path(name)) for name in names), "made again")
            self.assertEqual(relay.admin("/livez")[0], 200)
            self.assertEqual(stat.S_IMODE(os.stat(relay.path("admin.sock")).st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(os.stat(relay.run_dir).st_mode), 0o755)
        relay.datagram(line(event("there")))
        self.assert_exactly(relay, ["there"])
        self.assertIn('"admin.socket was removed, made again"', relay.log())
        self.assertIn('"run_dir was removed, made again"', relay.log())
        self.assertEqual(relay.end(), 0)
        self.assertFalse(os.path.exists(relay.path("admin.sock")), "removed at the end")

    def test_a_run_directory_of_somebody_else_is_theirs_to_make(self):
        relay = self.start_relay()
        self.assertEqual(relay.end(), 0)
        relay.start()  # finds the directory
        os.rename(relay.run_dir, relay.run_dir + ".gone")
        wait_for(lambda: '"admin.socket is gone and cannot be made again' in relay.log(), "told")
        self.assertFalse(os.path.exists(relay.run_dir))
        os.mkdir(relay.run_dir)
        wait_for(lambda: os.path.exists(relay.path("admin.sock")), "made again")
        self.assertEqual(relay.admin("/livez")[0], 200)


if __name__ == "__main__":
    unittest.main(verbosity=1)
