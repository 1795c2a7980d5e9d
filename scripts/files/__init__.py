"""How a file that several steps share is laid out, written and read.

Other parts import from here, not from the modules behind it.
"""

from files._cell_types import CellType, read_tested, stack
from files._graph import read_graph
from files._shares import count, logit_shares
from files._sums import obs_table, read_column, read_obs, read_types
from files._symbols import match_symbols, read_species

__all__ = [
    "CellType",
    "count",
    "logit_shares",
    "match_symbols",
    "obs_table",
    "read_column",
    "read_graph",
    "read_obs",
    "read_species",
    "read_tested",
    "read_types",
    "stack",
]
