#!/usr/bin/env python3
"""The loss table in README.md: every cell names tests, and every test that is named exists."""

import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NUMBERS = re.compile(r"\((\d+(?:, \d+)*)\)")
NAMED = re.compile(r"^(\d+)\. `([^`]+)`: `([^`]+)`$", re.MULTILINE)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def has_test(path, name):
    """Whether the file has this test; doctest names may be broken over lines."""
    if not os.path.exists(os.path.join(ROOT, path)):
        return False
    if path.endswith(".py"):
        return re.search(rf"^    def {re.escape(name)}\(self\)", read(path), re.MULTILINE) is not None
    return any("".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found)) == name
               for found in re.findall(r"TEST_CASE\(((?:\s*\"(?:[^\"\\]|\\.)*\")+)\)", read(path)))


class LossTableTest(unittest.TestCase):
    def setUp(self):
        section = read("README.md").split("\n## What is lost when\n")[1].split("\n## ")[0]
        table = [[cell.strip() for cell in text.strip("|").split("|")]
                 for text in section.splitlines() if text.startswith("|")]
        self.head, self.rows = table[0], table[2:]
        self.tests = {number: (path, name) for number, path, name in NAMED.findall(section)}

    def test_every_cell_names_tests(self):
        self.assertGreater(len(self.rows), 5)
        used = set()
        for row in self.rows:
            self.assertEqual(len(row), len(self.head), row)
            for column, cell in zip(self.head[1:], row[1:]):
                numbers = {one for group in NUMBERS.findall(cell) for one in group.split(", ")}
                self.assertTrue(numbers, f"no test shows the cell {row[0]} / {column}: {cell}")
                self.assertEqual(numbers - set(self.tests), set(), f"no such test: {cell}")
                used |= numbers
        self.assertEqual(set(self.tests) - used, set(), "tests that no cell names")

    def test_every_test_that_is_named_exists(self):
        for number, (path, name) in self.tests.items():
            self.assertTrue(has_test(path, name), f"{number}: {path} has no test \"{name}\"")

    def test_a_test_that_does_not_exist_is_noticed(self):
        path, name = next(iter(self.tests.values()))
        self.assertFalse(has_test(path, name + "_"))
        self.assertFalse(has_test("tests/system/no_such_test.py", name))
        self.assertFalse(has_test("tests/sim/sim_test.cpp", "sim: no such test"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
