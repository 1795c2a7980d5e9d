"""Switch `results/publish/v1` to an earlier release: `python ops/rollback.py results/publish [--to ID]`.

Without --to the release published before the current one. The release is verified first. A later run without
changes keeps it; a run that publishes, after a change or with `--forcerun publish`, switches to the new one.
"""

import argparse
import json
import sys
from pathlib import Path

import _root  # noqa: F401
from job import InputError
from publish import RELEASES, check_release, list_by_time, read_current, switch_release


def choose(publish: Path, to: str | None) -> str:
    """The release to switch to; SystemExit with one line if there is none."""
    if not (publish / RELEASES).is_dir():
        sys.exit(f"error: {publish} has no {RELEASES}; name the publish folder of a run")
    releases, now = list_by_time(publish), read_current(publish)
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
    """Verify the release and switch to it; returns a line with the result."""
    before, release = read_current(publish), choose(publish, to)
    if problems := check_release(publish / RELEASES / release):
        sys.exit(f"error: release {release} is not complete, nothing was changed\n{problems}")
    try:
        switch_release(publish, release)
    except InputError as error:
        sys.exit(f"error: {error}")
    return f"{publish}/v1: release {release}, before {before}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("publish", type=Path, help="folder that has v1 and releases")
    parser.add_argument("--to", metavar="ID", help="a folder of releases")
    options = parser.parse_args()
    print(roll_back(options.publish, options.to))
