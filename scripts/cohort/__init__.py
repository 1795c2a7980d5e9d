"""From the user's file, a URL or the simulated demo to checked shards of whole donors.

Planning and the checks of the config use what is imported here.
"""

from cohort._entries import list_files

__all__ = ["list_files"]
