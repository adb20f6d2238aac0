#!/usr/bin/env python3
"""Several requests under way on a connection (upstream.pipeline): the API's emulation, another
opsrelay and nginx read them; what does not bear it is asked one by one."""

import re
import socket
import threading
import unittest

from harness import RelayTest, event, wait_for
from servers import Nginx, start

EVENTS = 3000
DEPTH = 8


class PipelineTest(RelayTest):
    def start_pipelined(self, url, name="relay", more="", depth=DEPTH, connections=2):
        return self.start_relay(
            name=name, upstream_url=url,
            config=f"upstream: {{pipeline: {depth}, connections: {connections}{more}}}\n")

    def metric(self, relay, name):
        """{labels: value} of one metric."""
        status, text = relay.admin("/metrics")
        self.assertEqual(status, 200)
        found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def depth(self, relay):
        return self.metric(relay, "opsrelay_upstream_pipeline_depth")['lane="default"']

    def codes(self, relay):
        return {re.search('code="(.*)"', labels)[1]: count for labels, count in
                self.metric(relay, "opsrelay_upstream_requests_total").items()}

    def deliver(self, relay, count=EVENTS, prefix="e"):
        self.assertEqual(relay.send_acked([event(f"{prefix}-{n}") for n in range(count)]),
                         (count, 0))
        self.wait_ledger(relay, delivered=count, spooled=0)

    def test_the_api_takes_them(self):
        self.start_upstream()
        relay = self.start_pipelined(self.upstream.url)
        self.deliver(relay)
        self.assertEqual(len(self.upstream.row_ids()), EVENTS)
        self.assertEqual(self.codes(relay), {"200": EVENTS})
        self.assertEqual(self.depth(relay), DEPTH)
        self.assertLessEqual(self.upstream.stats()["connections"]["peak"], 2)

    def test_another_relay_takes_them(self):
        self.start_upstream()
        second = self.start_relay(name="second", upstream_url=self.upstream.url)
        relay = self.start_pipelined(f"http://127.0.0.1:{second.port('http')}", name="first")
        self.deliver(relay)
        self.assertEqual(self.codes(relay), {"200": EVENTS})
        self.wait_ledger(second, delivered=EVENTS, spooled=0)
        self.assertEqual(len(self.upstream.row_ids()), EVENTS)
        self.assertEqual(self.depth(relay), DEPTH)

    def test_nginx_ends_connections_and_nothing_fails(self):
        self.start_upstream()

        def make(port):
            return Nginx(self.directory, "nginx", port, self.upstream.port, f"127.0.0.1:{port}",
                         "keepalive_requests 100;")

        nginx = start(make)
        self.processes.append(nginx)
        relay = self.start_pipelined(f"http://127.0.0.1:{nginx.port}")
        self.deliver(relay)
        self.assertEqual(len(self.upstream.row_ids()), EVENTS)
        codes = self.codes(relay)
        self.assertEqual(codes.pop("200"), EVENTS)
        self.assertLessEqual(set(codes), {"unanswered"})
        self.assertEqual(self.depth(relay), DEPTH)
        retries = self.metric(relay, "opsrelay_upstream_retries_total")
        self.assertEqual([text for text, count in retries.items() if count], [])

    def test_what_does_not_bear_it_is_asked_one_by_one(self):
        """A middlebox that forgets what it read behind the request in hand, and then breaks."""
        self.start_upstream()
        box = OneAtATime(self.upstream.port)
        self.addCleanup(box.stop)
        relay = self.start_pipelined(f"http://127.0.0.1:{box.port}")
        self.deliver(relay)
        self.assertEqual(len(set(self.upstream.row_ids())), EVENTS)
        self.assertEqual(self.depth(relay), 1)
        log = relay.log()
        self.assertEqual(log.count("requests are not pipelined for a while"), 1)
        self.assertEqual(relay.ledger()["dead"], 0)

    def test_an_end_with_many_under_way_loses_nothing(self):
        self.start_upstream()
        relay = self.start_pipelined(self.upstream.url, depth=16, connections=8)
        self.deliver(relay, 500, "before")
        self.upstream.control(rates={"stall": 1000})
        relay.send_acked([event(f"after-{n}") for n in range(500)])
        wait_for(lambda: self.upstream.stats()["requests"] == 508, "each connection is busy")
        self.assertEqual(relay.end(), 0)
        self.upstream.control(rates={})
        relay.start()
        self.wait_ledger(relay, spooled=0)
        self.assertEqual(len(set(self.upstream.row_ids())), 1000)


class OneAtATime:
    """A server between, which resets a connection on which a request comes before its turn."""

    def __init__(self, to_port):
        self.to_port = to_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended = False
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.ended:
                client.close()
                return
            thread = threading.Thread(target=self.serve, args=(client,))
            self.threads.append(thread)
            thread.start()

    def serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self.to_port)) as server:
            client.settimeout(30)
            server.settimeout(30)
            try:
                while request := one_message(client):
                    server.sendall(request)
                    client.sendall(one_message(server))
            except (OSError, ValueError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def stop(self):
        self.ended = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.listener.close()
        for thread in self.threads:
            thread.join(60)


def one_message(peer):
    """The bytes of one request or reply with a Content-Length; b"" at the end. ValueError when
    more came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = peer.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
    while len(body) < length:
        piece = peer.recv(65536)
        if not piece:
            return b""
        body += piece
    if len(body) > length:
        raise ValueError("more than one message")
    return head + b"\r\n\r\n" + body


if __name__ == "__main__":
    unittest.main()
