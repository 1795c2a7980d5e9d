"""How a file that several steps share is laid out, written and read.

Other parts import from here, not from the modules behind it.
"""

from files._cell_types import CellType, read_cell_types, read_tested, stack_tables
from files._columns import RESERVED_COLUMNS, SAMPLE_COLUMNS
from files._figures import DISTINCT_COLOURS, PALETTE, colour, colours, save_figure
from files._graph import read_graph, write_graph
from files._h5ad import RowAppender, count_rows, count_values, create_h5ad
from files._shards import Shard, read_genes, read_in_order, read_kept, read_shard
from files._shares import count_cells, logit_shares
from files._sums import read_obs, read_types, write_sums
from files._symbols import match_symbols, read_species
from files._tsv import read_tsv, write_tsv

__all__ = [
    "DISTINCT_COLOURS",
    "PALETTE",
    "RESERVED_COLUMNS",
    "SAMPLE_COLUMNS",
    "CellType",
    "RowAppender",
    "Shard",
    "colour",
    "colours",
    "count_cells",
    "count_rows",
    "count_values",
    "create_h5ad",
    "logit_shares",
    "match_symbols",
    "read_cell_types",
    "read_genes",
    "read_graph",
    "read_in_order",
    "read_kept",
    "read_obs",
    "read_shard",
    "read_species",
    "read_tested",
    "read_tsv",
    "read_types",
    "save_figure",
    "stack_tables",
    "write_graph",
    "write_sums",
    "write_tsv",
]
