"""The state of the results, a line per rule: `snakemake --summary` made readable.

    python ops/summary.py [--target TARGET] [--configfile C] [--profile P]

Per rule: outputs, how many of them are up to date, when the newest was made, and what is the matter with the
others. It tells, it does not judge: `make drift` is the gate. Exit 2 when Snakemake cannot be asked.
"""

import argparse
import csv
import sys
from datetime import datetime

from drift import Asker, add_question

COLUMNS = ["rule", "outputs", "current", "newest", "pending"]


def read_summary(printed: str) -> list[dict[str, str]]:
    """Rows of Snakemake's table, which other lines may precede."""
    lines = printed.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("output_file\t")), None)
    return (
        [] if start is None else list(csv.DictReader(lines[start:], delimiter="\t", quoting=csv.QUOTE_NONE))
    )


def by_rule(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """One row per rule, in the order in which their newest outputs were made, those without any at the end.

    pending: `status: count` of the outputs that a run would make again; Snakemake's word is "ok" for those
    that are as they should be themselves but come after others that are not.
    """
    lines = []
    for rule in {row["rule"]: None for row in rows}:
        outputs = [row for row in rows if row["rule"] == rule]
        times = [datetime.strptime(row["date"], "%c") for row in outputs if row["date"] != "-"]
        late = [row["status"].replace("ok", "after others") for row in outputs if row["plan"] != "no update"]
        states = [f"{state}: {late.count(state)}" for state in sorted(set(late))]
        lines.append(
            {"rule": rule, "outputs": len(outputs), "current": len(outputs) - len(late)}
            | {"newest": max(times, default=None), "pending": ", ".join(states)}
        )
    return sorted(lines, key=lambda row: (row["newest"] is None, row["newest"] or row["rule"]))


def printed(rows: list[dict[str, object]]) -> str:
    """The table in columns, with a line of totals."""
    cells = [COLUMNS] + [
        [str(row[name]) if row[name] is not None else "never" for name in COLUMNS] for row in rows
    ]
    widths = [max(len(line[n]) for line in cells) for n in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    outputs, current = (sum(row[name] for row in rows) for name in ("outputs", "current"))
    lines.append(f"{len(rows)} rules, {outputs} outputs: {current} up to date, {outputs - current} pending")
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_question(parser)
    options = parser.parse_args()
    done = Asker(options.profile, options.configfile, options.target).run("--summary")
    rows = read_summary(done.stdout)
    if done.returncode or not rows:
        print((done.stdout + done.stderr).strip() or "Snakemake made no summary", file=sys.stderr)
        sys.exit(2)
    print(printed(by_rule(rows)))


if __name__ == "__main__":
    main()
