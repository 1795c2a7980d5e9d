"""The verified release, which others may rely on. Programs import from here."""

from publish._release import RELEASES, check_release, list_by_time, read_current, switch_release

__all__ = ["RELEASES", "check_release", "list_by_time", "read_current", "switch_release"]
