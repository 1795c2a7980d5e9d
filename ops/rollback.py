"""Let `results/publish/v1` lead to a former release: `python ops/rollback.py results/publish [--to ID]`.

Without --to the one published before the current one. It is verified first. A run without changes leaves v1
where it is; a run that publishes, because anything changed or `--forcerun publish` asks, goes forward again.
"""

import argparse
import json
import sys
from pathlib import Path

import _root  # noqa: F401
from job import InputError
from publish import RELEASES, by_time, current, faults, point


def choose(publish: Path, to: str | None) -> str:
    """The release to go back to; SystemExit in one line when there is none."""
    if not (publish / RELEASES).is_dir():
        sys.exit(f"error: {publish} has no {RELEASES}; name the publish folder of a run")
    releases, now = by_time(publish), current(publish)
    if to is not None:
        if to not in releases:
            sys.exit(f"error: there is no release {to}; there are {', '.join(releases) or 'none'}")
        return to
    earlier = releases[releases.index(now) + 1 :] if now in releases else releases
    if not earlier:
        others = (
            ", ".join(f"{name} of {time_of(publish, name)}" for name in releases if name != now) or "none"
        )
        sys.exit(f"error: no release before {now}; there are {others}: name one with --to (make: ARGS=...)")
    return earlier[0]


def time_of(publish: Path, release: str) -> str:
    """When a release was published."""
    return json.loads((publish / RELEASES / release / "run.json").read_text(encoding="utf-8"))["published_at"]


def roll_back(publish: Path, to: str | None) -> str:
    """Verify the release and switch to it; returns a line that says so."""
    before, release = current(publish), choose(publish, to)
    if lines := faults(publish / RELEASES / release):
        sys.exit(f"error: release {release} is not whole, nothing was changed\n{lines}")
    try:
        point(publish, release)
    except InputError as error:
        sys.exit(f"error: {error}")
    return f"{publish}/v1: release {release}, before {before}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("publish", type=Path, help="folder that has v1 and releases")
    parser.add_argument("--to", metavar="ID", help="a folder of releases")
    given = parser.parse_args()
    print(roll_back(given.publish, given.to))
