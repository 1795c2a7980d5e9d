"""Names of columns that tables have beside the covariates; these the user names in load.covariates."""

# of a sample, made by load and pseudobulk: with the covariates what a design or a baseline can use
SAMPLE_COLUMNS = ("donor", "pool", "log_cells", "log_depth", "pct_counts_mt")
# names that a covariate cannot have
RESERVED_COLUMNS = (
    *SAMPLE_COLUMNS,
    *("sample", "pools", "shard", "kept", "step", "reason", "used"),
    *("cell", "cells", "counts", "cell_type", "id", "label", "gene_id", "symbol"),
)
