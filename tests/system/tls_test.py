#!/usr/bin/env python3
"""TLS towards the upstream: a certificate that verifies delivers; with any other one nothing is
sent, every record is kept, and the reason is told. Plain HTTP leaves this host only if asked to."""

import os
import subprocess
import unittest

from harness import DEADLINE, RELAY, RelayTest, event, wait_for


class TlsTest(RelayTest):
    def start_trusting(self, name, url, ca_file):
        config = "upstream:\n  timeout: 5s\n"
        if ca_file:
            config += f'  ca_file: "{ca_file}"\n'
        return self.start_relay(name="relay-" + name, upstream_url=url, config=config)

    def check_refused(self, relay, upstream, error):
        """Events are accepted and kept; not one request is made; the reason is in /status."""
        self.assertEqual(relay.send_acked([event() for _ in range(10)]), (10, 0))
        wait_for(lambda: relay.lane()["state"] == "backing_off", "backing_off")
        self.assertRegex(relay.lane()["last_error"], error)
        self.assertEqual(relay.admin("/readyz")[0], 200)
        self.wait_ledger(relay, accepted=10, spooled=10, delivered=0, dead=0, dropped=0)
        stats = upstream.stats()
        self.assertEqual((stats["requests"], stats["status_requests"], stats["rows"]), (0, 0, 0))

    def test_a_certificate_that_verifies_delivers(self):
        for name, options, by_address in (
                ("name", (), False),
                ("address", ("--tls-host", "127.0.0.1"), True)):
            with self.subTest(host=name):
                upstream, certificate = self.start_tls(name, *options)
                url = f"https://127.0.0.1:{upstream.port}" if by_address else upstream.url
                relay = self.start_trusting(name, url, certificate)
                ids = [f"{name}-{number}" for number in range(100)]
                self.assertEqual(relay.send_acked([event(one) for one in ids]), (100, 0))
                self.wait_ledger(relay, accepted=100, delivered=100, spooled=0)
                self.assertEqual(relay.lane()["state"], "active")
                self.assertEqual(sorted(upstream.row_ids()), sorted(ids))
                stats = upstream.stats()
                self.assertEqual((stats["requests"], stats["repeated"]), (100, 0))
                self.assertEqual(stats["connections"]["tls_failures"], 0)
                self.assertLessEqual(stats["connections"]["total"], 8)  # they are kept alive

    def test_a_certificate_that_does_not_verify_sends_nothing(self):
        _, other = self.start_tls("other")
        rows = [
            # name, options, which certificate is trusted, by address, the reason
            ("unknown", (), None, False, "^tls: .*certificate refused: self.signed certificate"),
            ("another-trusted", (), other, False, "^tls: .*certificate refused: "),
            ("wrong-host", ("--tls-host", "api.example.com"), "own", False,
             "^tls: .*certificate refused: hostname mismatch"),
            ("name-for-an-address", (), "own", True,
             "(?i)^tls: .*certificate refused: IP address mismatch"),
            ("expired", ("--tls-expired",), "own", False,
             "^tls: .*certificate refused: certificate has expired"),
        ]
        for name, options, trusted, by_address, error in rows:
            with self.subTest(certificate=name):
                upstream, own = self.start_tls(name, *options)
                url = f"https://127.0.0.1:{upstream.port}" if by_address else upstream.url
                relay = self.start_trusting(name, url, own if trusted == "own" else trusted)
                self.check_refused(relay, upstream, error)

    def test_what_was_kept_is_delivered_once_the_certificate_is_trusted(self):
        upstream, certificate = self.start_tls("untrusted")
        relay = self.start_trusting("untrusted", upstream.url, None)
        self.check_refused(relay, upstream, "^tls: ")
        self.assertEqual(relay.end(), 0)
        with open(relay.config_file, "w", encoding="utf-8") as file:
            file.write(f'upstream:\n  ca_file: "{certificate}"\n')
        relay.start()
        self.wait_ledger(relay, recovered=10, accepted=0, delivered=10, spooled=0)
        self.assertEqual(len(upstream.row_ids()), 10)
        self.assertEqual(upstream.stats()["repeated"], 0)

    def test_tls_towards_a_server_that_speaks_none(self):
        upstream = self.start_upstream()
        relay = self.start_relay(upstream_url=f"https://localhost:{upstream.port}")
        self.check_refused(relay, upstream, "^tls: ")

    def test_no_tls_towards_a_server_that_wants_it(self):
        upstream, _ = self.start_tls("wants-tls")
        relay = self.start_relay(upstream_url=f"http://localhost:{upstream.port}")
        self.check_refused(relay, upstream, "^reset: ")

    # --- At start ---

    def refuse_to_start(self, url, config=""):
        """The message it ends with: exit code 2, before it opens a spool."""
        path = os.path.join(self.directory, "opsrelay.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        run_dir, spool = (os.path.join(self.directory, name) for name in ("run", "spool"))
        done = subprocess.run(
            [RELAY, "run", "--config", path, "--run-dir", run_dir, "--spool-dir", spool,
             "--upstream-url", url, "--http-port", "0", "--udp-port", "0", "--admin-port", "0"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertFalse(os.path.isdir(spool) and os.listdir(spool), "a spool was opened")
        return done.stdout + done.stderr

    def test_plain_http_to_another_host_is_refused_at_start(self):
        for host in ("api.opsmeter.io", "192.0.2.1", "[2001:db8::1]:8080", "127.0.0.1.example.com"):
            with self.subTest(host=host):
                message = self.refuse_to_start(f"http://{host}")
                self.assertIn("upstream.url", message)
                self.assertIn("allow_plaintext", message)
                self.assertIn(host, message)

    def test_plain_http_to_another_host_may_be_asked_for(self):
        """It starts, and warns. The name has no address, so nothing leaves."""
        relay = self.start_relay(upstream_url="http://opsrelay-test.invalid",
                                 config="upstream:\n  timeout: 1s\n  allow_plaintext: true\n")
        self.assertRegex(relay.log(), "(?i)warn.*(plaintext|not encrypted|http://)")
        self.assertEqual(relay.end(), 0)

    def test_a_ca_file_that_cannot_be_used_is_refused_at_start(self):
        absent = os.path.join(self.directory, "absent.pem")
        garbage = os.path.join(self.directory, "garbage.pem")
        with open(garbage, "w", encoding="utf-8") as file:
            file.write("not a certificate\n")
        for path in (absent, garbage):
            with self.subTest(file=os.path.basename(path)):
                message = self.refuse_to_start("https://localhost:1",
                                               f'upstream:\n  ca_file: "{path}"\n')
                self.assertIn("upstream.ca_file", message)
                self.assertIn(path, message)


if __name__ == "__main__":
    unittest.main(verbosity=1)
