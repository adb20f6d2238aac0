#!/usr/bin/env python3
"""What keeps the daemon from starting, and what must not: exit codes, and messages that name the
thing, the value and the next step."""

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import unittest

from harness import DEADLINE, KEY, RELAY, Process, RelayTest, StreamClient, event, line, wait_for

SUN_PATH_MAX = 107
NOBODY = "nobody"


def clean_environment(**variables):
    """This process's environment without settings of the daemon, and these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSRELAY_")}
    return {**kept, **variables}


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=DEADLINE)


def make_certificate(certificate, key):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=opsrelay", "-keyout", key, "-out", certificate)


def crc32c(data):
    """Castagnoli's polynomial, as RocksDB masks it in its log."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def replace_in_log(path, old, new):
    """Replaces bytes in the one record of a RocksDB write log that has them; whether it had.

    A record is crc32c(4) length(2) type(1), with types above 4 also the log's number(4), and the
    payload; the checksum covers what follows the length. Only the log's first block is looked at.
    """
    with open(path, "rb") as file:
        log = bytearray(file.read())
    at = 0
    while at + 7 <= min(len(log), 32 << 10):
        length = int.from_bytes(log[at + 4:at + 6], "little")
        end = at + (11 if log[at + 6] > 4 else 7) + length
        if old in log[at + 6:end]:
            log[at + 6:end] = log[at + 6:end].replace(old, new)
            log[at:at + 4] = crc32c(log[at + 6:end]).to_bytes(4, "little")
            with open(path, "wb") as file:
                file.write(log)
            return True
        at = end
    return False


class StartupTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.run_dir = os.path.join(self.directory, "run")
        self.spool_dir = os.path.join(self.directory, "spool")

    def arguments(self, *more, config=None):
        """A command line that would start, changed by `more`: the last flag of a name wins."""
        given = {"--config": self.write("opsrelay.yaml", config or ""), "--run-dir": self.run_dir,
                 "--spool-dir": self.spool_dir, "--upstream-url": "http://127.0.0.1:9",
                 "--http-port": "0", "--udp-port": "0", "--admin-port": "0"}
        given.update(zip(more[::2], more[1::2]))
        flags = [part for flag, value in given.items() if value is not None
                 for part in (flag, value)]
        return [RELAY, "run", *flags]

    def write(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def refused(self, code, parts, *more, config=None, environment=None, user=None):
        """The daemon ends with this code and a message with all parts; returns the message."""
        done = subprocess.run(
            self.arguments(*more, config=config), stdin=subprocess.DEVNULL, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE, user=user,
            env=clean_environment(**(environment or {})))
        self.assertEqual(done.returncode, code, done.stdout)
        for part in parts:
            self.assertIn(part, done.stdout)
        self.assertNotIn("terminate called", done.stdout)
        return done.stdout

    def started(self, *more, config=None, environment=None, name="daemon"):
        """A running daemon's process, ready by its own word."""
        process = Process(self.arguments(*more, config=config),
                          os.path.join(self.directory, name + ".log"),
                          environment)
        self.processes.append(process)
        wait_for(lambda: 'msg="ready"' in process.log() or not process.running(), "daemon ready")
        self.assertTrue(process.running(), process.log())
        return process

    def refused_by_all(self, parts, *more, config):
        """`run`, `check` and `doctor` find the same in a configuration, in the same words."""
        said = self.refused(2, parts, *more, config=config)
        flags = self.arguments(*more, config=config)[2:]
        check, doctor = (subprocess.run(
            [RELAY, command, *flags], stdin=subprocess.DEVNULL, text=True, check=False,
            capture_output=True, timeout=DEADLINE, env=clean_environment())
            for command in ("check", "doctor"))
        self.assertEqual((check.returncode, check.stdout), (2, ""), check.stderr)
        message = check.stderr.removeprefix("opsrelay: ").rstrip("\n")
        self.assertIn(message.replace('"', '\\"'), said)
        self.assertEqual(doctor.returncode, 1)
        self.assertIn(message, doctor.stdout)

    # --- The configuration ---

    def test_config_file_that_is_missing(self):
        missing = os.path.join(self.directory, "nowhere.yaml")
        self.refused(2, [missing, "No such file", "--config"], "--config", missing)
        self.refused(2, [missing], "--config", None, environment={"OPSRELAY_CONFIG": missing})

    def test_config_file_that_is_no_file_or_no_yaml(self):
        self.refused(2, [self.directory, "not a regular file"], "--config", self.directory)
        self.refused(2, ["opsrelay.yaml:3:1: ", "not found"],
                     config="spool: {}\nupstream: {url: [\n")
        self.refused(2, ["opsrelay.yaml:1:1", "map"], config="- a\n- b\n")
        self.refused(2, ["second document"], config="spool: {}\n---\nspool: {}\n")
        self.refused(2, ["spool", "already set in line 1"], config="spool: {}\nspool: {}\n")

    def test_unknown_keys_with_line_column_and_suggestion(self):
        cases = [
            ("spool:\n  max_byte: 1GiB\n", "2:3", "spool.max_byte", "spool.max_bytes"),
            ("upstream: {conections: 4}\n", "1:12", "upstream.conections", "upstream.connections"),
            ("spol: {}\n", "1:1", "spol", "spool"),
            ("listeners:\n  - {type: udp, adress: '127.0.0.1:1'}\n", "2:17", "adress", "address"),
        ]
        for config, place, key, suggestion in cases:
            with self.subTest(key):
                self.refused(2, [f"opsrelay.yaml:{place}: ", key, f"did you mean {suggestion}?"],
                             config=config)

    def test_values_out_of_range_or_without_unit(self):
        cases = [
            ("upstream: {timeout: 10}", ["upstream.timeout", '"10"', "such as 30s"]),
            ("upstream: {timeout: 1h}", ["upstream.timeout", "3600000ms", "[100ms, 300000ms]"]),
            ("spool: {max_bytes: 512}", ["spool.max_bytes", '"512"', "64MiB"]),
            ("spool: {max_bytes: 1KiB}", ["spool.max_bytes", "1KiB", "[64MiB, "]),
            ("memory: {stall_buffer: -1MiB}", ["memory.stall_buffer", '"-1MiB"']),
            ("memory: {stall_buffer: 1GiB}", ["memory.stall_buffer", "1GiB", "quarter"]),
            ("upstream: {connections: 0}", ["upstream.connections", "0", "[1, 64]"]),
            ("upstream: {connections: many}", ["upstream.connections", '"many"']),
            ("upstream: {url: example.com}", ["upstream.url", '"example.com"', "https://host"]),
            ("upstream: {url: 'https://h/v1'}", ["upstream.url", "upstream.path"]),
            ("upstream: {url: 'http://example.com'}", ["upstream.url", "allow_plaintext"]),
            ("upstream: {url: 'https://h:70000'}", ["upstream.url", "70000"]),
            ("upstream: {kind: kafka}", ["upstream.kind", "kafka", "opsmeter"]),
            ("events: {missing_id: guess}", ["events.missing_id", "guess", "mint", "reject"]),
            ("spool: {ephemeral: yes please}", ["spool.ephemeral", "true", "false"]),
            ("run_dir: relative/path", ["run_dir", '"relative/path"', "absolute"]),
            ("log: {level: loud}", ["log.level", "loud", "info"]),
            ("shutdown: {deadline: 2h}", ["shutdown.deadline", "7200000ms"]),
            ("listeners: [{type: tcp, address: '127.0.0.1:1'}]", ["listeners[0].type", "tcp"]),
            ("listeners: [{type: unix_stream}]", ["listeners[0]", "path"]),
            ("listeners: [{type: udp, address: '127.0.0.1'}]", ["listeners[0].address",
                                                                "127.0.0.1:8710"]),
            ("listeners: [{type: unix_stream, path: a.sock, mode: '999'}]",
             ["listeners[0].mode", '"999"', "octal"]),
            ("listeners: [{type: unix_stream, path: a.sock}, {type: http, path: a.sock}]",
             ["a.sock", "already used by listeners[0]"]),
        ]
        for config, parts in cases:
            with self.subTest(config):
                flags = ["--upstream-url", None] if config.startswith("upstream: {url") else []
                flags += ["--run-dir", None] if config.startswith("run_dir") else []
                flags += ["--udp-port", None, "--http-port", None] if "[{" in config else []
                self.refused(2, parts, *flags, config=config + "\n")

    def test_certificates_that_cannot_be_used(self):
        absent = os.path.join(self.directory, "absent.pem")
        garbage = self.write("garbage.pem", "not a certificate\n")
        good, key, locked = (os.path.join(self.directory, name)
                             for name in ("good.pem", "key.pem", "locked.pem"))
        make_certificate(good, key)
        openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)
        rows = [("ca_file", absent, {}, "No such file or directory"),
                ("ca_file", garbage, {}, "no certificate"),
                ("client_cert_file", absent, {"client_key_file": key}, "No such file or directory"),
                ("client_cert_file", key, {"client_key_file": key}, "no start line"),
                ("client_key_file", absent, {"client_cert_file": good},
                 "No such file or directory"),
                ("client_key_file", locked, {"client_cert_file": good}, "PEM and without a"),
                ("client_key_file", good, {"client_cert_file": good}, "PEM and without a")]
        for name, path, others, reason in rows:
            given = "".join(f'  {key}: "{value}"\n' for key, value in others.items())
            for lane, prefix in (("upstream:\n", ""), ("lanes:\n europe:\n", "lane europe: ")):
                with self.subTest(key=name, file=os.path.basename(path), lane=prefix):
                    self.refused_by_all([f"{prefix}upstream.{name}: ", path, reason],
                                        "--upstream-url", "https://127.0.0.1:9",
                                        config=f'{lane}{given}  {name}: "{path}"\n')

    def test_token_files_and_groups_that_cannot_be_used(self):
        short = self.write("short", "short\n")
        absent = os.path.join(self.directory, "absent")
        for path, reason in ((absent, "No such file or directory"), (short, "line 1 is no token"),
                             (self.directory, "not a regular file")):
            with self.subTest(token_file=os.path.basename(path)):
                self.refused_by_all([f"http: token_file: token file {path}: {reason}"],
                                    config="listeners:\n  - type: http\n    address: 127.0.0.1:0\n"
                                    f'    token_file: "{path}"\n')
        self.refused_by_all(
            ["group", "nobody-has-it", "of socket", "does not exist; create it or use a number"],
            config=f'listeners:\n  - type: unix_stream\n    path: "{self.directory}/s.sock"\n'
            '    group: nobody-has-it\n')

    def test_flags_that_are_wrong(self):
        cases = [
            (["--http-port", "70000"], ["--http-port", "70000", "off"]),
            (["--udp-port", "x"], ["--udp-port", '"x"']),
            (["--upstream-url", "ftp://h"], ["--upstream-url", '"ftp://h"']),
            (["--log-level", "loud"], ["--log-level", "loud"]),
            (["--spol-dir", "/tmp"], ["--spol-dir", "did you mean --spool-dir?", "--help"]),
        ]
        for flags, parts in cases:
            with self.subTest(flags):
                self.refused(2, parts, *flags)

    def test_environment_variables_are_read_strictly(self):
        cases = [
            ({"OPSRELAY_SPOOL__MAX_BYTE": "1GiB"}, ["OPSRELAY_SPOOL__MAX_BYTE", "did you mean",
                                                    "OPSRELAY_SPOOL__MAX_BYTES"]),
            ({"OPSRELAY_SPOOL__MAX_BYTES": "12"}, ["OPSRELAY_SPOOL__MAX_BYTES", '"12"']),
            ({"OPSRELAY_LISTENERS": "[]"}, ["OPSRELAY_LISTENERS", "file only"]),
            ({"OPSRELAY_API_KEY": "has a space"}, ["OPSRELAY_API_KEY"]),
        ]
        for variables, parts in cases:
            with self.subTest(variables):
                text = self.refused(2, parts, environment=variables)
                self.assertNotIn("has a space", text)

    def test_settings_come_from_file_then_environment_then_flags(self):
        other = os.path.join(self.directory, "other-run")
        config = f"run_dir: {self.directory}/unused\nspool: {{dir: {self.directory}/unused-too}}\n"
        self.started("--run-dir", None, "--spool-dir", self.spool_dir, config=config,
                     environment={"OPSRELAY_RUN_DIR": other,
                                  "OPSRELAY_SPOOL__DIR": self.directory + "/unused-as-well",
                                  "OPSRELAY_SERVICE_HOST": "10.0.0.1",
                                  "OPSRELAY_PORT": "tcp://10.0.0.1:8710"})
        self.assertTrue(os.path.exists(os.path.join(other, "telemetry.sock")))
        self.assertTrue(os.path.isdir(os.path.join(self.spool_dir, "db")))
        for unused in ("unused", "unused-too", "unused-as-well"):
            self.assertFalse(os.path.exists(os.path.join(self.directory, unused)))

    def test_listeners_bind_loopback_addresses_only(self):
        for kind in ("udp", "http"):
            for address in ("0.0.0.0:8710", "192.0.2.1:8710", "[::]:8710"):
                with self.subTest(f"{kind} {address}"):
                    host = address.rsplit(":", 1)[0].strip("[]")
                    config = f"listeners:\n  - {{type: {kind}, address: '{address}'}}\n"
                    self.refused(2, ["opsrelay.yaml:2:", "listeners[0]", host, "loopback",
                                     "127.0.0.1", "allow_remote"], "--udp-port", None, "--http-port", None,
                                 config=config)
        self.refused(2, ["admin.address", "0.0.0.0", "loopback"],
                     config="admin: {address: '0.0.0.0:0'}\n")

    # --- The run directory and its sockets ---

    def test_a_path_longer_than_sun_path(self):
        long = os.path.join(self.directory, "d" * 100)
        path = os.path.join(long, "telemetry.sock")
        self.refused(2, [path, f"{len(path)} bytes", str(SUN_PATH_MAX), "run_dir"],
                     "--run-dir", long)
        self.assertFalse(os.path.exists(long), "nothing was made")

    def test_the_longest_path_that_fits(self):
        room = SUN_PATH_MAX - len(os.path.join(self.directory, "", "telemetry.stream.sock"))
        run_dir = os.path.join(self.directory, "d" * (room - 1))
        path = os.path.join(run_dir, "telemetry.stream.sock")
        self.assertEqual(len(path), SUN_PATH_MAX)
        self.started("--run-dir", run_dir)
        with StreamClient(path) as client:
            client.send(line(event()))
            self.assertEqual(client.finish(), (1, 0))

    def test_a_directory_in_a_sockets_place(self):
        for name in ("telemetry.sock", "telemetry.stream.sock", "http.sock", "admin.sock"):
            with self.subTest(name):
                path = os.path.join(self.run_dir, name)
                os.makedirs(path)
                self.refused(1, [path, "a directory", "remove it"])
                os.rmdir(path)

    def test_a_file_in_a_sockets_place_is_kept(self):
        os.makedirs(self.run_dir)
        for name in ("telemetry.sock", "admin.sock"):
            with self.subTest(name):
                path = os.path.join(self.run_dir, name)
                self.write(path, "precious")
                self.refused(1, [path, "not a socket", "remove it"])
                with open(path, encoding="utf-8") as file:
                    self.assertEqual(file.read(), "precious")
                os.remove(path)

    def test_a_run_directory_that_cannot_be_made(self):
        file = self.write("file", "")
        self.refused(1, ["run_dir", file, "--run-dir"], "--run-dir", file)
        self.refused(1, ["run_dir", file + "/run", "--run-dir"], "--run-dir", file + "/run")

    def test_a_missing_parent_is_made(self):
        deep = os.path.join(self.directory, "a", "b", "run")
        self.started("--run-dir", deep)
        self.assertTrue(os.path.exists(os.path.join(deep, "telemetry.sock")))

    def test_stale_sockets_are_replaced_silently(self):
        upstream = self.start_upstream()
        relay = self.start_relay()
        first = os.stat(relay.path("telemetry.sock")).st_ino
        relay.kill()
        self.assertTrue(os.path.exists(relay.path("telemetry.sock")), "left by the kill")
        said = len(relay.log())
        relay.start()
        self.assertNotEqual(os.stat(relay.path("telemetry.sock")).st_ino, first)
        for loud in ("stale", "in use", "level=error stage=listen"):
            self.assertNotIn(loud, relay.log()[said:])
        relay.datagram(line(event("after")))
        self.wait_ledger(relay, delivered=1, spooled=0)
        self.assertEqual(upstream.row_ids(), ["after"])
        self.assertEqual(relay.end(), 0)
        for name in ("telemetry.sock", "telemetry.stream.sock", "http.sock"):
            self.assertFalse(os.path.exists(relay.path(name)), "removed at the end")

    def test_a_run_directory_of_another_daemon(self):
        self.start_upstream()
        relay = self.start_relay()
        path = relay.path("telemetry.sock")
        self.refused(5, [path, "another opsrelay", "run_dir"], "--run-dir", relay.run_dir)
        relay.datagram(line(event("still-here")))
        self.wait_ledger(relay, delivered=1)
        self.assertEqual(self.upstream.row_ids(), ["still-here"])

    def test_a_socket_that_another_program_serves(self):
        os.makedirs(self.run_dir)
        kinds = {"telemetry.sock": socket.SOCK_DGRAM, "telemetry.stream.sock": socket.SOCK_STREAM,
                 "admin.sock": socket.SOCK_STREAM}
        for name, kind in kinds.items():
            with self.subTest(name), socket.socket(socket.AF_UNIX, kind) as other:
                path = os.path.join(self.run_dir, name)
                other.bind(path)
                if kind == socket.SOCK_STREAM:
                    other.listen()
                self.refused(5, [path, "another process", "stop it"])
                os.remove(path)

    def test_ports_in_use(self):
        with contextlib.ExitStack() as stack:
            tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            udp.bind(("127.0.0.1", 0))
            for flag, taken in (("--http-port", tcp), ("--admin-port", tcp), ("--udp-port", udp)):
                with self.subTest(flag):
                    port = str(taken.getsockname()[1])
                    self.refused(5, [f"127.0.0.1:{port}", "in use", "stop"], flag, port)

    # --- The spool ---

    def test_a_spool_that_another_daemon_has_open(self):
        self.start_upstream()
        relay = self.start_relay()
        self.refused(3, [relay.spool_dir, "another process", "spool.dir"],
                     "--spool-dir", relay.spool_dir)
        self.assertEqual(relay.send_acked([event("still-here")]), (1, 0))

    def test_a_spool_directory_that_is_a_file(self):
        file = self.write("file", "precious")
        self.refused(4, [file, "--spool-dir"], "--spool-dir", file)
        self.refused(4, [file + "/spool", "--spool-dir"], "--spool-dir", file + "/spool")

    def test_a_spool_whose_database_is_a_file(self):
        os.makedirs(self.spool_dir)
        self.write(os.path.join(self.spool_dir, "db"), "precious")
        self.refused(4, [self.spool_dir, "Not a directory", "spool.dir"])

    def test_a_spool_of_a_newer_format(self):
        self.start_upstream()
        relay = self.start_relay()
        relay.kill()  # what names the format is then still in the write log
        database = os.path.join(relay.spool_dir, "db")
        logs = [os.path.join(database, name) for name in os.listdir(database)
                if name.endswith(".log")]
        old, new = (b"\6format\4" + version.to_bytes(4, "big") for version in (2, 3))
        self.assertTrue(any([replace_in_log(path, old, new) for path in logs]))
        files = sorted(os.listdir(database))
        self.refused(4, [relay.spool_dir, "has format 3", "reads formats 1 to 2"],
                     "--spool-dir", relay.spool_dir)
        self.assertLessEqual({name for name in files if name.endswith(".sst")},
                             set(os.listdir(database)))

    # --- Without permission ---

    def nobody(self):
        """Gives the temporary directory to a user without rights; their number."""
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        try:
            user = pwd.getpwnam(NOBODY).pw_uid
        except KeyError:
            self.skipTest(f"no user {NOBODY}")
        probe = subprocess.run([RELAY, "version"], check=False, user=user, env=clean_environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if probe.returncode != 0:
            self.skipTest(f"{NOBODY} cannot execute {RELAY}")
        os.chmod(self.directory, 0o755)
        return user

    def test_directories_without_permission(self):
        user = self.nobody()
        own = os.path.join(self.directory, "own")
        os.mkdir(own)
        os.chown(own, user, -1)
        os.mkdir(self.run_dir)
        os.mkdir(self.spool_dir, 0o755)
        self.refused(1, ["run_dir", self.run_dir, "must be writable", "Permission denied",
                         "--run-dir"], "--spool-dir", own, user=user)
        self.refused(4, ["spool.dir", self.spool_dir, "must be writable", "Permission denied",
                         "--spool-dir"], "--run-dir", own, user=user)
        missing = os.path.join(self.directory, "missing")
        self.refused(1, ["run_dir", missing, "Permission denied"], "--run-dir", missing,
                     "--spool-dir", own, user=user)
        self.refused(4, ["spool.dir", missing, "Permission denied"], "--run-dir", own,
                     "--spool-dir", missing, user=user)

    def test_a_config_file_without_permission(self):
        user = self.nobody()
        config = self.write("secret.yaml", "spool: {}\n")
        os.chmod(config, 0o600)
        self.refused(2, [config, "Permission denied", "readable"], "--config", config, user=user)

    def test_a_spool_of_another_user(self):
        user = self.nobody()
        first = self.started()
        self.assertEqual(first.end(), 0)
        os.chown(self.spool_dir, user, -1)
        os.chown(self.run_dir, user, -1)
        for name in os.listdir(self.run_dir):
            os.remove(os.path.join(self.run_dir, name))
        self.refused(4, [self.spool_dir, "spool.dir"], user=user)

    def test_what_another_user_may_not_ask_is_not_taken_for_absent(self):
        user = self.nobody()
        daemon = self.started()
        self.addCleanup(daemon.end)

        def ask(*command):
            done = subprocess.run([RELAY, *command], stdin=subprocess.DEVNULL, text=True,
                                  check=False, capture_output=True, timeout=DEADLINE, user=user,
                                  env=clean_environment())
            return done.returncode, done.stdout + done.stderr

        for command in (["spool", "stat"], ["spool", "verify"], ["dead", "list"]):
            with self.subTest(command):
                code, said = ask(*command, "--spool-dir", self.spool_dir)
                self.assertEqual(code, 4, said)
                self.assertIn(f"spool {self.spool_dir}: Permission denied; run this as root or as "
                              "the daemon's user", said)
        for command in (["status"], ["flush"], ["dead", "list"], ["tail"]):
            with self.subTest(command):
                code, said = ask(*command, "--run-dir", self.run_dir)
                self.assertEqual(code, 1, said)
                self.assertIn("this user may not ask the daemon; tried connect "
                              f"{self.run_dir}/admin.sock: Permission denied; run this as root", said)
        _, said = ask("doctor", *self.arguments()[2:])
        self.assertRegex(said, "admin.sock: Permission denied: this user may not ask")
        self.assertRegex(said, "telemetry.stream.sock: in use, as by a daemon")
        self.assertNotIn("stop it", said)

    def test_a_key_file_without_permission(self):
        user = self.nobody()
        key = self.write("key", KEY)
        os.chmod(key, 0o600)
        for directory in (self.run_dir, self.spool_dir):
            os.mkdir(directory)
            os.chown(directory, user, -1)
        log = os.path.join(self.directory, "nobody.log")
        with open(log, "wb") as out:
            child = subprocess.Popen(self.arguments("--api-key-file", key), user=user,
                                     stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                     env=clean_environment())

        def said():
            with open(log, encoding="utf-8") as file:
                return file.read()

        try:
            wait_for(lambda: 'msg="ready"' in said() and key in said(), "ready, naming the file")
            self.assertIn("Permission denied", said())
            with StreamClient(os.path.join(self.run_dir, "telemetry.stream.sock")) as client:
                client.send(line(event()))
                self.assertEqual(client.finish(), (1, 0))
        finally:
            child.send_signal(signal.SIGTERM)
            self.assertEqual(child.wait(DEADLINE), 0)

    # --- Without a key ---

    def accepts_and_spools(self, relay, *said):
        """The daemon takes an event without delivering it, and its log says these things."""
        self.assertEqual(relay.send_acked([event("waits")]), (1, 0))
        self.assertEqual(self.wait_ledger(relay, accepted=1)["spooled"], 1)
        self.assertEqual(relay.lane()["state"], "no_key")
        wait_for(lambda: all(part in relay.log() for part in said), f"{said} in the log")

    def test_key_files_that_hold_no_key(self):
        self.start_upstream()
        cases = [("missing", None, "No such file"), ("empty", "", "empty"),
                 ("blank", " \n\n", "empty"), ("broken", "two words", "spaces"),
                 ("binary", "k\x01y", "control characters"), ("large", "k" * 9000, "longer than")]
        for name, content, complaint in cases:
            with self.subTest(name):
                relay = self.start_relay(name=name, key=content)
                self.accepts_and_spools(relay, relay.key_file, complaint)
                with open(relay.key_file, "w", encoding="utf-8") as file:
                    file.write(KEY + "\n")
                self.wait_ledger(relay, delivered=1, spooled=0)
                self.assertNotIn(KEY, relay.log())
                relay.end()
        self.assertEqual(self.upstream.row_ids(), ["waits"])

    def test_a_key_file_that_is_a_directory(self):
        self.start_upstream()
        path = os.path.join(self.directory, "keys")
        os.mkdir(path)
        relay = self.start_relay()
        relay.end()
        relay.arguments[relay.arguments.index("--api-key-file") + 1] = path
        relay.start()
        self.accepts_and_spools(relay, path, "not a regular file")

    def test_no_key_and_no_config_file_at_all(self):
        state, runtime = (os.path.join(self.directory, name) for name in ("state", "runtime"))
        process = self.started(
            "--config", None, "--upstream-url", None,
            environment={"HOME": self.directory, "XDG_STATE_HOME": state,
                         "XDG_RUNTIME_DIR": runtime})
        if not os.path.exists("/etc/opsrelay/opsrelay.yaml"):
            self.assertIn("no API key", process.log())
            self.assertIn("OPSRELAY_API_KEY_FILE", process.log())
        with StreamClient(os.path.join(self.run_dir, "telemetry.stream.sock")) as client:
            client.send(line(event()))
            self.assertEqual(client.finish(), (1, 0))
        self.assertEqual(process.end(), 0)

    def test_default_directories_of_a_user(self):
        user = self.nobody()
        state, runtime = (os.path.join(self.directory, name) for name in ("state", "runtime"))
        for directory in (state, runtime):
            os.mkdir(directory)
            os.chown(directory, user, -1)
        arguments = self.arguments("--run-dir", None, "--spool-dir", None)
        with open(os.path.join(self.directory, "user.log"), "wb") as log:
            child = subprocess.Popen(
                arguments, user=user, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=clean_environment(XDG_STATE_HOME=state, XDG_RUNTIME_DIR=runtime))
        try:
            wait_for(lambda: os.path.exists(runtime + "/opsrelay/admin.sock"), "sockets of a user")
            self.assertTrue(os.path.isdir(state + "/opsrelay/db"))
            self.assertEqual(os.stat(state + "/opsrelay").st_mode & 0o777, 0o700)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(DEADLINE)
        self.assertEqual(child.returncode, 0)
        text = self.refused(2, ["spool.dir", "--spool-dir"], "--run-dir", None, "--spool-dir", None,
                            environment={"HOME": "", "XDG_STATE_HOME": "relative",
                                         "XDG_RUNTIME_DIR": ""}, user=user)
        self.assertIn("XDG_STATE_HOME", text)

    def test_a_key_in_the_environment_works_is_warned_about_and_cleared(self):
        upstream = self.start_upstream()
        process = self.started("--upstream-url", upstream.url,
                               environment={"OPSRELAY_API_KEY": KEY})
        self.assertIn("OPSRELAY_API_KEY_FILE", process.log())
        self.assertIn("level=warn", process.log())
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            variables = file.read()
        self.assertNotIn(KEY.encode(), variables)
        with StreamClient(os.path.join(self.run_dir, "telemetry.stream.sock")) as client:
            client.send(line(event("with-key")))
            self.assertEqual(client.finish(), (1, 0))
        wait_for(lambda: upstream.row_ids() == ["with-key"], "one row")
        self.assertNotIn(KEY, process.log())

    def test_a_key_file_wins_over_a_key_in_the_environment(self):
        self.start_upstream()
        relay = self.start_relay(environment={"OPSRELAY_API_KEY": "wrong"})
        self.assertIn("OPSRELAY_API_KEY is ignored", relay.log())
        self.assertEqual(relay.send_acked([event("by-file")]), (1, 0))
        self.wait_ledger(relay, delivered=1, spooled=0)

    def test_two_daemons_side_by_side(self):
        upstream = self.start_upstream()
        first, second = self.start_relay(name="first"), self.start_relay(name="second")
        self.assertEqual(first.send_acked([event("one")]), (1, 0))
        self.assertEqual(second.send_acked([event("two")]), (1, 0))
        for relay in (first, second):
            self.wait_ledger(relay, delivered=1, spooled=0)
        self.assertEqual(sorted(upstream.row_ids()), ["one", "two"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
