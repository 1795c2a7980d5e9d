"""How a file that several steps share is laid out, written and read.

Other parts import from here, not from the modules behind it.
"""

from files._cell_types import CellType, read_tested, stack
from files._graph import read_graph, write_graph
from files._h5ad import RowAppender, count_rows, count_values, create_h5ad
from files._shards import Shard, read_genes, read_in_order, read_kept, read_shard
from files._shares import count, logit_shares
from files._sums import read_obs, read_types, write_sums

__all__ = [
    "CellType",
    "RowAppender",
    "Shard",
    "count",
    "count_rows",
    "count_values",
    "create_h5ad",
    "logit_shares",
    "read_genes",
    "read_graph",
    "read_in_order",
    "read_kept",
    "read_obs",
    "read_shard",
    "read_tested",
    "read_types",
    "stack",
    "write_graph",
    "write_sums",
]
