#!/usr/bin/env python3
"""A flood under a limit of memory, as a container sets it: memory.max_bytes and what the program
itself takes stay below, so that the kernel never ends the daemon; everything arrives. And peers
that take memory without sending anything whole."""

import contextlib
import os
import socket
import threading
import time
import unittest

import harness
from harness import RelayTest, StreamClient

EVENTS = 200_000
BATCH = 2_000
MIB = 2**20


class MemoryLimit:
    """A cgroup of its own with that many bytes; SkipTest where one cannot be made."""

    def __init__(self, limit):
        name = f"opsrelay-test-{os.getpid()}-{time.monotonic_ns()}"
        try:
            if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):  # version 2
                self.path = f"/sys/fs/cgroup/{name}"
                with contextlib.suppress(OSError):
                    self._write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
                file = "memory.max"
            else:
                self.path = f"/sys/fs/cgroup/memory/{name}"
                file = "memory.limit_in_bytes"
            os.mkdir(self.path)
        except OSError as error:
            raise unittest.SkipTest(f"no cgroup can be made here: {error}") from error
        try:
            self._write(os.path.join(self.path, file), str(limit))
        except OSError as error:
            os.rmdir(self.path)
            raise unittest.SkipTest(f"no memory controller here: {error}") from error

    @staticmethod
    def _write(path, text):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    def add(self, pid):
        self._write(os.path.join(self.path, "cgroup.procs"), str(pid))

    def remove(self):
        """Once it is empty; the kernel may need a moment."""
        def removed():
            try:
                os.rmdir(self.path)
            except OSError:
                return False
            return True
        harness.wait_for(removed, f"{self.path} is removed")


def has_sanitizer():
    """Its shadow memory is many times what the program uses."""
    with open(harness.RELAY, "rb") as program:
        return b"__asan_init" in program.read()


def peak_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


class MemoryTest(RelayTest):
    def setUp(self):
        super().setUp()
        if has_sanitizer():
            self.skipTest("the program has a sanitizer")

    def flood(self, relay, first, count):
        """Acked batches, each event about 330 bytes."""
        padding = "x" * 96
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            reader = threading.Thread(target=self.read_acks, args=(client, count))
            reader.start()
            for begin in range(first, first + count, BATCH):
                client.send("".join(
                    f'{{"externalRequestId":"{os.getpid():08x}-{number:024x}","provider":"openai",'
                    f'"model":"gpt-4o-mini","endpointTag":"support.triage","inputTokens":{number},'
                    f'"outputTokens":96,"latencyMs":1043,"status":"success","userId":"{number:x}",'
                    f'"featureTag":"{padding}"}}\n'
                    for number in range(begin, begin + BATCH)).encode())
            reader.join(harness.DEADLINE * 2)
            self.assertEqual(client.durable, count)

    @staticmethod
    def read_acks(client, count):
        while client.durable < count and client.read_ack():
            pass

    def run_under(self, limit_mib, config):
        limit = MemoryLimit(limit_mib * MIB)
        self.addCleanup(limit.remove)
        upstream = self.start_upstream("--ids-only")
        upstream.control(down=True)
        relay = self.start_relay(config=config)
        limit.add(relay.pid)
        self.flood(relay, 0, EVENTS)
        upstream.control(down=False)
        self.flood(relay, EVENTS, EVENTS // 4)  # while the backlog is delivered
        total = EVENTS + EVENTS // 4
        harness.wait_for(lambda: relay.ledger()["delivered"] == total, "everything is delivered",
                         harness.DEADLINE * 4)
        self.assert_balanced(relay)
        self.assertEqual(len(set(upstream.row_ids())), total)
        self.assertLess(peak_mib(relay.pid), limit_mib)
        self.assertEqual(relay.end(), 0)

    def test_default_of_64_mib_in_a_container_of_96(self):
        self.run_under(96, "spool: {max_bytes: 2GiB}\n")

    def test_32_mib_in_a_container_of_56(self):
        self.run_under(56, "spool: {max_bytes: 2GiB}\n"
                           "memory: {max_bytes: 32MiB, stall_buffer: 2MiB}\n"
                           "dedupe: {max_ids: 200000}\n")

    def test_16_lanes_with_128_connections(self):
        upstream, certificate = self.start_tls("upstream", "--ids-only")
        upstream.control(down=True)
        names = ["default", *(f"lane-{number}" for number in range(1, 16))]
        key = os.path.join(self.directory, "key")
        with open(key, "w", encoding="ascii") as file:
            file.write(upstream.key)
        config = ["dedupe: {max_ids: 1000000}", "lanes:"]
        config += [f'  {name}: {{url: "{upstream.url}", api_key_file: "{key}", '
                   f'ca_file: "{certificate}", concurrency: fixed}}' for name in names]
        config += ["listeners:"]
        config += [f"  - {{type: unix_stream, path: {name}.sock, lane: {name}}}" for name in names]
        relay = self.start_relay(upstream_url=upstream.url, config="\n".join(config) + "\n")
        each = 1_000
        for name in names:
            events = [harness.event(f"{name}-{number}") for number in range(each)]
            self.assertEqual(relay.send_acked(events, f"{name}.sock"), (each, 0))
        upstream.control(down=False, latency_ms=50)
        self.wait_ledger(relay, harness.DEADLINE * 2, delivered=each * len(names), spooled=0)
        self.assertGreater(upstream.stats()["connections"]["peak"], 100)
        self.assertLess(peak_mib(relay.pid), 54)
        self.assertEqual(relay.end(), 0)

    def test_hundreds_that_stop_in_the_middle_take_no_more_than_a_few(self):
        upstream = self.start_upstream("--ids-only")
        relay = self.start_relay(upstream_url=upstream.url)
        with contextlib.ExitStack() as clients:
            for name, beginning in (
                    ("telemetry.stream.sock", b""),
                    ("http.sock", b"POST /v1/ingest/llm-request HTTP/1.1\r\nHost: localhost\r\n"
                                  b"Content-Type: application/json\r\n"
                                  b"Content-Length: 64000\r\n\r\n")):
                for _ in range(200):
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.settimeout(harness.DEADLINE)
                    client.connect(relay.path(name))
                    client.send(beginning + b'{"model":"' + b"x" * 60_000)
            self.assertEqual(relay.send_acked([harness.event(str(i)) for i in range(1000)]),
                             (1000, 0))
            self.wait_ledger(relay, delivered=1000)
            self.assertLess(peak_mib(relay.pid), 32)
        self.assertEqual(relay.end(), 0)


if __name__ == "__main__":
    unittest.main()
