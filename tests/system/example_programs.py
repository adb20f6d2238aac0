"""The programs of proto/examples as commands, compiled once for all tests of a file."""

import os
import shutil
import subprocess
import sys
import unittest

from harness import BUILD, DEADLINE

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.path.join(ROOT, "proto", "examples")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
# Compilers may be slow on a busy machine, and Go compiles its library the first time.
COMPILE_SECONDS = 10 * DEADLINE


def need(program):
    """Skips the test, and says so, when `program` is not installed (`./dev test` installs it)."""
    if shutil.which(program) is None:
        raise unittest.SkipTest(f"NOT RUN: {program} is not installed")


def compiled(arguments, output, environment=None):
    done = subprocess.run(arguments, check=False, timeout=COMPILE_SECONDS, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(arguments)}\n{done.stdout}")
    return [output]


def compile_cpp(source, output, *options):
    need("c++")
    return compiled(["c++", "-std=c++17", "-pthread", *options, "-I", EXAMPLES, source, "-o",
                     output], output)


def compile_go(source, output):
    need("go")
    cache = os.path.abspath(os.path.join(BUILD, "..", "go"))  # for all presets
    return compiled(["go", "build", "-o", output, source], output,
                    {"GOCACHE": os.path.join(cache, "cache"), "GOPATH": os.path.join(cache, "path"),
                     "GOTOOLCHAIN": "local", "GOFLAGS": ""})


def command_of(name, directory):
    """The command that runs an example, compiled into `directory` where it must be."""
    path = os.path.join(EXAMPLES, name)
    output = os.path.join(directory, name.replace(".", "_"))
    if name.endswith(".mjs"):
        need("node")
        return ["node", path]
    if name.endswith(".py"):
        return [sys.executable, "-B", path]
    if name.endswith(".go"):
        return [output] if os.path.exists(output) else compile_go(path, output)
    return [output] if os.path.exists(output) else compile_cpp(path, output, *WARNINGS)


def outside_environment():
    """The environment without what would speak to the daemon."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OPSRELAY_")}
