#!/usr/bin/env python3
"""Ways to the upstream, against the distribution's own servers: nginx closes idle connections,
reloads and asks for certificates; tinyproxy makes tunnels; a Unix socket needs neither."""

import os
import re
import signal
import sys
import unittest

from harness import RelayTest, event, wait_for
from servers import Authority, Nginx, Tinyproxy, start

# Turns loopback of a new network namespace on (netdevice(7)), leaves clients one port, and becomes
# its arguments.
ONE_PORT = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("40000 40000")
os.execv(sys.argv[1], sys.argv[1:])
"""

IN_TLS = "ssl_certificate {certificate}; ssl_certificate_key {key};"


class LinksTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()
        self.authority = Authority(self.directory)

    def start_nginx(self, name="nginx", server="", tls=True):
        """With a certificate for localhost."""
        if tls:
            key, certificate = self.authority.issue(name)
            server = IN_TLS.format(certificate=certificate, key=key) + server

        def make(port):
            listen = f"127.0.0.1:{port}" + (" ssl" if tls else "")
            return Nginx(self.directory, name, port, self.upstream.port, listen, server)

        nginx = start(make)
        self.processes.append(nginx)
        return nginx

    def start_trusting(self, nginx, config="", **settings):
        return self.start_relay(
            upstream_url=f"https://localhost:{nginx.port}",
            config=f'upstream:\n  ca_file: "{self.authority.certificate}"\n{config}', **settings)

    def deliver(self, relay, prefix, count, delivered):
        """`count` events more; afterwards `delivered` altogether."""
        self.assertEqual(relay.send_acked([event(f"{prefix}-{n}") for n in range(count)]),
                         (count, 0))
        self.wait_ledger(relay, delivered=delivered, spooled=0)

    def metrics(self, relay, name):
        """{labels: value} of one metric."""
        status, text = relay.admin("/metrics")
        self.assertEqual(status, 200)
        found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def assert_no_failure(self, relay, requests):
        """Every request had an answer of 200, and nothing had to be sent again."""
        codes = self.metrics(relay, "opsrelay_upstream_requests_total")
        self.assertEqual(codes, {'lane="default",code="200"': requests})
        retries = self.metrics(relay, "opsrelay_upstream_retries_total")
        self.assertEqual([text for text, count in retries.items() if count], [])

    # --- Connections ---

    def test_connections_are_kept_and_their_end_is_no_failure(self):
        nginx = self.start_nginx(server="keepalive_requests 25; keepalive_timeout 1s;")
        relay = self.start_trusting(nginx)
        for wave in range(1, 4):
            self.deliver(relay, f"wave{wave}", 200, wave * 200)
            # The server closes idle connections between the waves.
            wait_for(lambda: self.no_connection_to(nginx.port, relay), "idle connections closed")
        self.assert_no_failure(relay, 600)
        connections = {number for _, _, number in nginx.requests()}
        self.assertGreaterEqual(len(connections), 24)
        self.assertLess(len(connections), 100)
        self.assertEqual(len(self.upstream.row_ids()), 600)

    @staticmethod
    def no_connection_to(port, relay):
        """No established TCP connection of the daemon to the port (proc(5), net/tcp)."""
        with open(f"/proc/{relay.pid}/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in list(table)[1:]]
        return not any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)

    def test_a_server_that_reloads_under_load_costs_nothing(self):
        nginx = self.start_nginx()
        relay = self.start_trusting(nginx)
        for wave in range(1, 6):
            self.assertEqual(
                relay.send_acked([event(f"reload{wave}-{n}") for n in range(300)]), (300, 0))
            nginx.signal(signal.SIGHUP)
            self.wait_ledger(relay, delivered=wave * 300, spooled=0)
        self.assertEqual(len(self.upstream.row_ids()), 1500)
        self.assertEqual(relay.ledger()["dead"], 0)

    def test_a_unix_socket(self):
        path = os.path.join(self.directory, "api.sock")

        def make(port):
            # The port only says when nginx is up.
            return Nginx(self.directory, "unix", port, self.upstream.port,
                         f"unix:{path}; listen 127.0.0.1:{port}", "")

        nginx = start(make)
        self.processes.append(nginx)
        relay = self.start_relay(upstream_url=f"unix:{path}")
        self.deliver(relay, "unix", 100, 100)
        self.assert_no_failure(relay, 100)
        self.assertLessEqual(len({number for _, _, number in nginx.requests()}), 8)

    # --- Client certificates ---

    def test_a_client_certificate_and_its_successor(self):
        other = Authority(self.directory, "other-ca")
        nginx = self.start_nginx(
            server=f"ssl_client_certificate {self.authority.certificate}; ssl_verify_client on;"
                   "ssl_session_cache off; ssl_session_tickets off;")
        key, certificate = self.authority.issue("client-1")
        relay = self.start_trusting(
            nginx, f'  client_cert_file: "{certificate}"\n  client_key_file: "{key}"\n')
        self.deliver(relay, "first", 20, 20)
        self.authority.issue("client-2", key=key, certificate=certificate)
        # Connections are there already: new ones are made when somebody closes them.
        nginx.signal(signal.SIGHUP)

        def successor_is_seen():
            self.assertEqual(relay.send_acked([event()]), (1, 0))
            return any(subject == "CN=client-2" for _, subject, _ in nginx.requests())

        wait_for(successor_is_seen, "the new certificate in use")
        self.wait_ledger(relay, spooled=0, dead=0)
        # What nobody signed that nginx trusts keeps every record here.
        before = len(self.upstream.row_ids())
        self.assertEqual(relay.end(), 0)
        other.issue("stranger", key=key, certificate=certificate)
        relay.start()
        self.assertEqual(relay.send_acked([event(f"third-{n}") for n in range(20)]), (20, 0))
        wait_for(lambda: relay.lane()["state"] == "misconfigured", "misconfigured")
        self.assertEqual(len(self.upstream.row_ids()), before)

    # --- Nobody there ---

    def test_a_closed_port_is_refused_and_never_connected_to_itself(self):
        """TCP connects a socket to itself when the kernel gives it the very port that it calls
        (RFC 9293 3.5, simultaneous open). In a network namespace with one port that is certain."""
        alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]),
                 sys.executable, "-c", ONE_PORT]
        relay = self.start_relay("--http-port", "off", "--udp-port", "off", "--admin-port", "off",
                                 upstream_url="http://127.0.0.1:40000", under=alone)
        self.assertEqual(relay.send_acked([event("kept")]), (1, 0))
        requests = "opsrelay_upstream_requests_total"
        wait_for(lambda: sum(self.metrics(relay, requests).values()) >= 3, "three attempts")
        self.assertEqual(set(self.metrics(relay, requests)), {'lane="default",code="refused"'})
        self.assertIn("connected to itself", relay.log())
        self.assertEqual(relay.ledger()["spooled"], 1)

    # --- Proxy ---

    def start_proxy(self, to_port, user="me", password="pass-word-planted"):
        proxy = start(lambda port: Tinyproxy(self.directory, "tinyproxy", port, to_port, user,
                                             password))
        self.processes.append(proxy)
        return proxy

    def test_a_proxy_makes_tunnels(self):
        nginx = self.start_nginx()
        proxy = self.start_proxy(nginx.port)
        relay = self.start_trusting(nginx, environment={
            "OPSRELAY_UPSTREAM__PROXY": f"http://me:pass-word-planted@127.0.0.1:{proxy.port}"})
        self.deliver(relay, "tunnel", 200, 200)
        self.assert_no_failure(relay, 200)
        self.assertIn(f"CONNECT localhost:{nginx.port}", proxy.log())
        self.assertLessEqual(len({number for _, _, number in nginx.requests()}), 8)
        with open(f"/proc/{relay.pid}/environ", "rb") as file:
            self.assertNotIn(b"pass-word-planted", file.read())
        # A proxy that goes away is an outage like any other, and over when it is back.
        proxy.kill()
        self.assertEqual(relay.send_acked([event(f"later-{n}") for n in range(20)]), (20, 0))
        wait_for(lambda: relay.lane()["state"] == "backing_off", "backing_off")
        self.assertIn(f"connect to 127.0.0.1:{proxy.port}", relay.lane()["last_error"])
        again = Tinyproxy(self.directory, "again", proxy.port, nginx.port, "me",
                          "pass-word-planted")
        self.processes.append(again)
        self.wait_ledger(relay, delivered=220, spooled=0)
        self.assertNotIn("pass-word-planted", relay.log())

    def test_a_proxy_that_refuses_keeps_everything_here(self):
        nginx = self.start_nginx()
        proxy = self.start_proxy(nginx.port)
        for name, credentials, status in (("none", "", "407|401"), ("wrong", "me:no@", "407|401"),
                                          ("port", "me:pass-word-planted@", "403")):
            with self.subTest(credentials=name):
                port = nginx.port if name != "port" else self.upstream.port
                relay = self.start_relay(
                    name="relay-" + name, upstream_url=f"https://localhost:{port}",
                    config=f'upstream:\n  ca_file: "{self.authority.certificate}"\n'
                           f'  proxy: "http://{credentials}127.0.0.1:{proxy.port}"\n')
                self.assertEqual(relay.send_acked([event() for _ in range(5)]), (5, 0))
                wait_for(lambda: relay.lane()["state"] == "backing_off", "backing_off")
                self.assertRegex(relay.lane()["last_error"],
                                 f"CONNECT through proxy .*refused with status ({status})")
                self.wait_ledger(relay, spooled=5, delivered=0, dead=0)
                self.assertEqual(self.upstream.row_ids(), [])


if __name__ == "__main__":
    unittest.main(verbosity=1)
