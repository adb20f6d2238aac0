"""The fault matrix in tests/README.md: a test class writes its own section of it, and is held to it.
tests/support/fault_matrix.h does the same for the tests in C++."""

import os

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")
HEAD = "| Site | Fault | What happened |\n|---|---|---|\n"
END = "<!-- end -->\n"


def _rows(table):
    lines = table.splitlines()[2:]
    return [tuple(cell.strip() for cell in text.strip("|").split("|")) for text in lines]


def _table(rows):
    return HEAD + "".join(f"| {site} | {fault} | {outcome} |\n" for site, fault, outcome in rows)


def check(section, rows, whole):
    """Compares the section with `rows` (site, fault, outcome). `whole`: the section has no others;
    else these are some of its rows. With RELAYTEST_UPDATE=1 the section is written instead."""
    with open(README, encoding="utf-8") as file:
        text = file.read()
    mark = f"<!-- matrix {section} -->\n"
    if mark not in text:
        raise AssertionError(f"{README} has no section \"{section}\"; add its marks")
    before, rest = text.split(mark, 1)
    committed, after = rest.split(END, 1)
    known = _rows(committed)
    if (rows == known) if whole else all(row in known for row in rows):
        return
    if os.environ.get("RELAYTEST_UPDATE") != "1":
        raise AssertionError(
            f"section \"{section}\" of {README} is not what the tests saw; look at the difference, "
            f"then run this with RELAYTEST_UPDATE=1:\n{_table(rows)}instead of\n{committed}")
    if not whole:
        seen = {row[:2] for row in rows}
        rows = [row for row in known if row[:2] not in seen] + rows
    with open(README, "w", encoding="utf-8") as file:
        file.write(before + mark + _table(rows) + END + after)
