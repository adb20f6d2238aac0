#!/usr/bin/env python3
"""Lets a checker read several files at once: it reads their headers for longer than the files.

together.py make DIRECTORY   reads names of .cpp files, one a line, and writes units into DIRECTORY
                             that include files of one folder; prints the names of the units
together.py check COMMAND... UNIT
                             runs COMMAND with the unit for {}; where that fails, with each of its
                             files, whose verdict counts: they may only not go together

Files go together when their unnamed namespaces, as far as this can see, have no name in common.
"""

import hashlib
import pathlib
import re
import subprocess
import sys

FILES_MAX = 16
UNNAMED = re.compile(r"^namespace \{$(.*?)^\}  // namespace$", re.MULTILINE | re.DOTALL)
# What a line at the left margin declares: the word before the first of ( = { ; [ or the end.
DECLARED = re.compile(r"^(?:\[\[nodiscard\]\] )?"
                      r"(?!namespace|template|static_assert|TEST_CASE)[A-Za-z_][^(={;\[]*?"
                      r"(?<![:\w])([A-Za-z_]\w*)\s*(?:[(={;\[]|$)", re.MULTILINE)
ONE_WORD = re.compile(r"^(?:struct|class|using|enum class) (\w+)", re.MULTILINE)
INCLUDED = re.compile(r'^#include "(.*)"  // ', re.MULTILINE)


def names(text):
    return set(DECLARED.findall(text)) | set(ONE_WORD.findall(text))


def units(files):
    """Groups of files of one folder each, the largest first."""
    groups = []  # folder, files, names that are taken
    declared = {}  # by the headers of a folder
    for file in files:
        folder = file.parent
        if folder not in declared:
            declared[folder] = set().union(*(names(h.read_text()) for h in folder.glob("*.h")))
        own = set().union(*(names(text) for text in UNNAMED.findall(file.read_text())))
        for group in groups:
            # A name that a header declares too is ambiguous when another file includes the header.
            if (group[0] == folder and len(group[1]) < FILES_MAX and not group[2] & own
                    and not own & declared[folder]):
                group[1].append(file)
                group[2].update(own)
                break
        else:
            groups.append((folder, [file], set(own)))
    return sorted(groups, key=lambda group: -len(group[1]))


def make(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.cpp"):
        old.unlink()
    files = [pathlib.Path(line) for line in sys.stdin.read().split("\n") if line]
    for number, (folder, members, _) in enumerate(units(files)):
        unit = directory / f"{'_'.join(folder.parts)}_{number}.cpp"
        # The digest makes the unit another one when a file is.
        unit.write_text("".join(
            f'#include "{file}"  // NOLINT(bugprone-suspicious-include) {hashlib.sha256(file.read_bytes()).hexdigest()}\n'
            for file in members))
        print(unit)


def run(command, file):
    words = [file if word == "{}" else word for word in command]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)


def check(unit, command):
    if run(command, unit).returncode == 0:
        return 0
    status = 0
    for file in INCLUDED.findall(pathlib.Path(unit).read_text()):
        alone = run(command, file)
        if alone.returncode != 0:
            print(alone.stdout)
            status = 1
    return status


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(pathlib.Path(sys.argv[2]))
    else:
        sys.exit(check(sys.argv[-1], sys.argv[2:-1]))
