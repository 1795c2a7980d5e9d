"""The verified release: what others may rely on. Programs use what is imported here."""

from publish._release import RELEASES, by_time, current, faults, point

__all__ = ["RELEASES", "by_time", "current", "faults", "point"]
