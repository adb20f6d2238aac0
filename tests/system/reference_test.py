#!/usr/bin/env python3
"""What is made from the command line's own definitions: bash's completion, sourced by bash and
asked; zsh's; and the manual page, which must be good roff and name every command and option."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import BUILD, DEADLINE, RELAY


def opsrelay(*arguments):
    done = subprocess.run([RELAY, *arguments], capture_output=True, text=True, check=False,
                          timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def commands():
    """{path: its options}, by --help, for every command and every member of a group."""
    found = {}

    def listed(page):
        block = re.search(r"^Subcommands:\n((?:  \S.*\n)+)", page, re.MULTILINE)
        return re.findall(r"^  (\S+)", block[1], re.MULTILINE) if block else []

    def walk(path):
        page = opsrelay(*path, "--help")
        options = page.partition("\n\n\n")[0]
        found[" ".join(path)] = set(re.findall(r"^  (?:-\w,)?(--[a-z][a-z-]*)", options,
                                               re.MULTILINE))
        for name in listed(page):
            walk((*path, name))

    walk(())
    return found


class ReferenceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.commands = commands()

    def complete(self, *words):
        """What bash offers for the last of these words."""
        script = opsrelay("completion", "bash") + """
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() { :; }  # outside of a completion there is none
_opsrelay
printf '%s\\n' "${COMPREPLY[@]}"
"""
        done = subprocess.run(["bash", "--norc", "-u", "-c", script, "bash", "opsrelay", *words],
                              capture_output=True, text=True, check=False, timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return set(done.stdout.split())

    def test_bash_knows_every_command_and_option(self):
        self.assertGreater(len(self.commands), 20)
        for path, options in self.commands.items():
            with self.subTest(path):
                words = path.split()
                self.assertEqual(self.complete(*words, "--"), options)
                members = {other.split()[-1] for other in self.commands
                           if other and other.split()[:-1] == words}
                offered = {word for word in self.complete(*words, "") if not word.startswith("-")}
                self.assertEqual(offered, members)

    def test_bash_completes_a_word_and_values(self):
        self.assertEqual(self.complete("stat"), {"status"})
        self.assertEqual(self.complete("dead", "ex"), {"export"})
        self.assertEqual(self.complete("status", "--output", ""), {"text", "json"})
        self.assertEqual(self.complete("status", "--output", "=", "j"), {"json"})
        self.assertEqual(self.complete("status", "--output", "="), {"text", "json"})
        self.assertEqual(self.complete("doctor", "--color", "a"), {"auto", "always"})
        self.assertEqual(self.complete("run", "--http-port", ""), {"off"})
        self.assertEqual(self.complete("status", "--timeout", ""), set())
        self.assertEqual(self.complete("nothing", ""), self.complete(""))
        # A value that is called like a command does not lead astray.
        self.assertEqual(self.complete("dead", "list", "--lane", "show", "--out"), {"--output"})
        with tempfile.TemporaryDirectory() as directory:
            with open(f"{directory}/one.yaml", "w", encoding="ascii"):
                pass
            self.assertEqual(self.complete("run", "--config", f"{directory}/o"),
                             {f"{directory}/one.yaml"})
            self.assertEqual(self.complete("run", "--spool-dir", f"{directory}/o"), set())

    def test_zsh_has_every_command_and_option(self):
        script = opsrelay("completion", "zsh")
        self.assertTrue(script.startswith("#compdef opsrelay\n"))
        for path, options in self.commands.items():
            name = "_opsrelay" + "".join(f"_{word}" for word in path.split())
            body = re.search(rf"^{name}\(\) {{\n(.*?)^}}$", script, re.MULTILINE | re.DOTALL)
            self.assertTrue(body, name)
            self.assertEqual(set(re.findall(r"^ +'(--[a-z-]+)=?\[", body[1], re.MULTILINE)),
                             options, path)
        self.assertNotIn("\n\n\n", script)
        if shutil.which("zsh") is None:
            self.skipTest("no zsh here to read it; its content was checked")
        subprocess.run(["zsh", "-n"], input=script, text=True, check=True, timeout=DEADLINE)

    def test_the_manual_page_names_all_and_is_good_roff(self):
        page = opsrelay("man")
        plain = page.replace("\\-", "-")
        self.assertRegex(page, r'^\.\\" .*\n\.TH OPSRELAY 1 "" "opsrelay \d')
        for path, options in self.commands.items():
            if not path:
                continue
            section = re.search(rf"^\.SS opsrelay {path}\n(.*?)(?=^\.S[SH] |\Z)", plain,
                                re.MULTILINE | re.DOTALL)
            self.assertTrue(section, path)
            for option in options:
                self.assertIn(f"\\fB{option}\\fP", section[1], path)
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "FILES"):
            self.assertIn(f"\n.SH {section}\n", page)
        groff = shutil.which("groff")
        self.assertIsNotNone(groff, "groff is missing: apt-get install groff-base")
        done = subprocess.run([groff, "-man", "-ww", "-z", "-Kutf8", "-rCHECKSTYLE=3"], input=page,
                              capture_output=True, text=True, check=False, timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_the_page_can_be_read(self):
        done = subprocess.run(["groff", "-man", "-Tascii", "-P-c"], input=opsrelay("man"),
                              capture_output=True, text=True, check=True, timeout=DEADLINE)
        text = re.sub(".\b", "", done.stdout)
        for part in ("opsrelay dead replay", "--spool-dir DIR", "Exit codes: 0 ok",
                     """opsrelay send '{"provider":"openai","model":"gpt-4o","externalRequestId":"""):
            self.assertIn(part, text)

    def test_an_installation_has_them_where_they_are_looked_for(self):
        with tempfile.TemporaryDirectory() as prefix:
            done = subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=False,
                                  capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(done.returncode, 0, done.stderr)
            for path, *command in (
                    ("share/man/man1/opsrelay.1", "man"),
                    ("share/bash-completion/completions/opsrelay", "completion", "bash"),
                    ("share/zsh/site-functions/_opsrelay", "completion", "zsh")):
                with open(os.path.join(prefix, path), encoding="utf-8") as file:
                    self.assertEqual(file.read(), opsrelay(*command))
            self.assertTrue(os.access(os.path.join(prefix, "bin/opsrelay"), os.X_OK))


if __name__ == "__main__":
    unittest.main(verbosity=1)
