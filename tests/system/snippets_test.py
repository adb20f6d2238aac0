#!/usr/bin/env python3
"""Runs the README's snippets as a reader would, against a daemon of their own.

What differs on the reader's machine is replaced, and nothing else: the run directory
(/run/opsrelay, $RUN, OPSRELAY_RUN_DIR), the spool (/var/lib/opsrelay, OPSRELAY_SPOOL__DIR), the
configuration (OPSRELAY_CONFIG), the ports 8710 and 8711, and the id of a dead letter. Events of
"Send events" must become rows; every line of "Operate" must end with status 0. `./dev` is not run:
it runs this."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import unittest
import uuid

from example_programs import ROOT, compile_cpp, compile_go, need, outside_environment
from harness import DEADLINE, RELAY, RelayTest, event


def section(title):
    """The text below a heading of the README, up to the next one of that level."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", file.read(),
                          re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {title}"
    return found[1]


def blocks(title, language):
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


class SnippetsTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()
        self.relay = self.start_relay()

    def run_text(self, arguments, text, **environment):
        """Runs a program with the snippet on its standard input; returns its output."""
        done = subprocess.run(arguments, input=text, text=True, check=False, timeout=DEADLINE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**outside_environment(), **environment})
        self.assertEqual(done.returncode, 0, f"{text}\n{done.stdout}")
        return done.stdout

    def one_block(self, language):
        found = blocks("Send events", language)
        self.assertEqual(len(found), 1, f"one {language} block")
        return found[0]

    def snippet_ids(self, snippet):
        ids = re.findall(r"externalRequestId\"?: ?\"([^\"]+)\"", snippet)
        self.assertTrue(ids, snippet)
        return ids

    # --- The shell's, line by line ---

    def shell_lines(self):
        """(the line that sets E, the lines that send it)."""
        lines = self.one_block("sh").splitlines()
        self.assertTrue(lines[0].startswith("E="), lines[0])
        return lines[0], [text for text in lines[1:] if text.strip()]

    def tools(self):
        """PATH with the daemon's program in front."""
        tools = os.path.join(self.directory, "bin")
        os.makedirs(tools, exist_ok=True)
        if not os.path.exists(os.path.join(tools, "opsrelay")):
            os.symlink(os.path.abspath(RELAY), os.path.join(tools, "opsrelay"))
        return tools + os.pathsep + os.environ["PATH"]

    def run_shell(self, program, match):
        """Runs the one line that contains `match`; its event must become a row."""
        need(program)
        assign, lines = self.shell_lines()
        found = [text for text in lines if match in text]
        self.assertEqual(len(found), 1, f"one line with {match}")
        script = f"set -e\n{assign}\n{found[0]}\n".replace("8710", str(self.relay.port("udp")))
        output = self.run_text(["sh"], script, RUN=self.relay.run_dir,
                               OPSRELAY_RUN_DIR=self.relay.run_dir, PATH=self.tools())
        self.wait_ledger(self.relay, received=1, delivered=1, spooled=0)
        (event_id,) = self.upstream.row_ids()
        self.assertEqual(str(uuid.UUID(event_id)), event_id, "an id that no other event has")
        return output

    def test_shell_unix_datagram(self):
        self.run_shell("socat", "UNIX-SENDTO:")

    def test_shell_unix_stream(self):
        self.run_shell("socat", "UNIX-CONNECT:")

    def test_shell_udp(self):
        self.run_shell("socat", "UDP-SENDTO:")

    def test_shell_http(self):
        self.assertIn('"ok":true', self.run_shell("curl", "curl "))

    def test_shell_send(self):
        self.assertIn("1 durable", self.run_shell("sh", "opsrelay send "))

    def test_every_shell_line_is_run_here(self):
        known = ("UNIX-SENDTO:", "UNIX-CONNECT:", "UDP-SENDTO:", "curl ", "opsrelay send ")
        _, lines = self.shell_lines()
        for text in lines:
            self.assertEqual(sum(match in text for match in known), 1, text)

    # --- The other languages ---

    def test_python(self):
        snippet = self.one_block("python")
        ids = self.snippet_ids(snippet)
        text = snippet.replace("/run/opsrelay", self.relay.run_dir)
        self.assertNotEqual(text, snippet, "the snippet names the run directory")
        self.run_text([sys.executable, "-"], text)
        self.wait_ledger(self.relay, received=len(ids), delivered=len(ids), spooled=0)
        self.assertEqual(self.upstream.row_ids(), ids)

    def test_javascript(self):
        need("node")
        probe = subprocess.run(["node", "-e", "process.exit(typeof fetch === 'function' ? 0 : 9)"],
                               check=False, timeout=DEADLINE)
        if probe.returncode != 0:
            self.skipTest("this node has no fetch: the snippet was not run")
        snippet = self.one_block("js")
        ids = self.snippet_ids(snippet)
        text = snippet.replace("127.0.0.1:8710", f"127.0.0.1:{self.relay.port('http')}")
        self.assertNotEqual(text, snippet, "the snippet names the port")
        self.run_text(["node", "--input-type=module", "-"], text)
        self.wait_ledger(self.relay, received=len(ids), delivered=len(ids), spooled=0)
        self.assertEqual(self.upstream.row_ids(), ids)

    def compiled_snippet(self, language, suffix, compiler):
        snippet = self.one_block(language)
        ids = self.snippet_ids(snippet)
        text = snippet.replace("/run/opsrelay", self.relay.run_dir)
        self.assertNotEqual(text, snippet, "the snippet names the run directory")
        source = os.path.join(self.directory, "snippet" + suffix)
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        self.run_text(compiler(source, os.path.join(self.directory, "snippet")), "")
        self.wait_ledger(self.relay, received=len(ids), delivered=len(ids), spooled=0)
        self.assertEqual(self.upstream.row_ids(), ids)

    def test_go(self):
        self.compiled_snippet("go", ".go", compile_go)

    def test_cpp(self):
        self.compiled_snippet("c++", ".cpp", compile_cpp)

    def test_no_block_is_forgotten(self):
        languages = re.findall(r"^```(\S+)$", section("Send events"), re.MULTILINE)
        self.assertEqual(sorted(languages), ["c++", "go", "js", "python", "sh"])

    # --- The first event of the section "Start" ---

    def test_the_first_event(self):
        lines = [text for block in blocks("Start", "sh") for text in block.splitlines()
                 if "| opsrelay send" in text or text.strip() == "opsrelay status"]
        self.assertEqual(len(lines), 2, "send and status")
        output = self.run_text(["sh"], "set -e\n" + "\n".join(lines) + "\n",
                               OPSRELAY_RUN_DIR=self.relay.run_dir, PATH=self.tools())
        self.assertIn("1 event: 1 durable", output)
        self.assertIn(": ready", output)
        self.wait_ledger(self.relay, delivered=1, spooled=0)
        self.assertEqual(self.upstream.row_ids(), self.snippet_ids(lines[0]))

    # --- The commands of the section "Operate", in their order ---

    def substituted(self, relay, text):
        for there, here in (("/var/lib/opsrelay", relay.spool_dir),
                            ("127.0.0.1:8711", f"127.0.0.1:{self.admin_port}"),
                            ("upstream-0-12", self.letter)):
            text = text.replace(there, here)
        return text

    def operate(self, relay, text):
        return self.run_text(["sh"], f"set -e\ncd {shlex.quote(self.directory)}\n{text}\n",
                             OPSRELAY_CONFIG=relay.config_file, OPSRELAY_RUN_DIR=relay.run_dir,
                             OPSRELAY_SPOOL__DIR=relay.spool_dir, PATH=self.tools())

    def one_to_operate(self):
        """A daemon with a lane `europe` and dead letters of both kinds. Its ports are flags, so that
        the file, which is all that other commands know, names none that is not there."""
        url, key = self.upstream.url, os.path.join(self.directory, "operate", "api-key")
        relay = self.start_relay(name="operate", config=(
            f'upstream: {{url: "{url}", api_key_file: "{key}"}}\n'
            f'lanes: {{europe: {{url: "{url}", api_key_file: "{key}"}}}}\n'
            "listeners:\n- {type: unix_datagram, path: telemetry.sock}\n"
            "- {type: unix_stream, path: telemetry.stream.sock}\n"
            "admin: {address: off}\n"))
        self.upstream.control(script=[{"fault": "400", "times": 2}])
        relay.send_acked([event(), event(), event(inputTokens="many")])
        self.wait_ledger(relay, dead=2, rejected=1)
        found = re.search(r"upstream-\d+-\d+", self.operate(relay, "opsrelay dead list"))
        self.letter = found[0]
        port = re.search(r"type=admin address=127\.0\.0\.1:(\d+)", relay.log())
        self.admin_port = port[1]
        return relay

    def test_every_command_that_operates(self):
        need("curl")
        relay = self.one_to_operate()
        for block in blocks("Operate", "sh"):
            if "opsrelay spool " in block and relay.running():
                self.assertEqual(relay.end(), 0)
            for text in block.splitlines():
                with self.subTest(text):
                    self.assertRegex(text, "^(opsrelay|curl) ")
                    if "damaged-1790000000000" in text:
                        shutil.copytree(os.path.join(relay.spool_dir, "db"),
                                        os.path.join(relay.spool_dir, "damaged-1790000000000"))
                    self.operate(relay, self.substituted(relay, text))


if __name__ == "__main__":
    unittest.main(verbosity=1)
