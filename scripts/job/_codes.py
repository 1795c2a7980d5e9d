"""Every warning code: the fact that it stands for, in one line, by the step that warns of it.

A code is `snake_case`, means one fact, and keeps its meaning: a config that accepts it must not accept
something else after an upgrade. `warn` refuses a code that is not here, and so does the config.
docs/warnings.md is the same for people (gates/describe_warnings.py). Steps and codes are in the order of the
run, in which the terminal, the page and the release list them.
"""

BY_STEP = {
    "load": {
        "genes_not_shared": "Genes that a file has and another file of the cohort lacks are left out.",
        "values_not_parsed": "Values of a numeric covariate are not numbers, so they count as missing.",
        "other_counts": "A file holds whole numbers in more than one place, and one of them is taken.",
        "features_left_out": "Features that are not genes, or of another genome, are left out.",
        "counts_rounded": "Counts with fractions are rounded, as load.round asks.",
        "donors_of_two_datasets": "A donor id names two people in two datasets: the dataset is put in front.",
        "cell_names_changed": "Cell names repeat: the file or the donor is put in front of all of them.",
        "table_rows_unmatched": "Rows of a table beside the data match no cell.",
        "cells_without_table_row": "Cells have no row in a table beside the data.",
        "levels_alike": "Labels that differ only by case, blanks or signs count as different.",
        "samples_mix_levels": "A sample sums cells of several tissues, conditions or times.",
    },
    "qc": {
        "pattern_matches_nothing": "No gene symbol matches a pattern: its share is 0 in every cell.",
        "sample_looks_unfiltered": "A sample has barcodes of two kinds, perhaps droplets without a cell.",
    },
    "doublets": {
        "doublets_not_scored": "A donor or pool is not scored, so none of its cells is called a doublet.",
    },
    "cells": {
        "doublet_threshold_replaced": "A threshold of Scrublet is replaced by the expected doublet rate.",
        "most_cells_dropped": "The limits of qc drop more than half of the cells.",
        "most_cells_of_samples_dropped": "The limits of qc drop more than half of the cells of some samples.",
    },
    "preprocess": {
        "exclude_matches_nothing": "No gene symbol matches a pattern, so its genes may be variable genes.",
    },
    "dimred": {
        "harmony_not_converged": "Harmony reached its last iteration before it converged.",
        "batch_has_one_level": "The batch has one level, so components are not harmonised.",
    },
    "samples": {
        "sex_contradicts_expression": "XIST and genes of Y show another sex than the one stated.",
        "donors_look_like_one": "Samples of different donors look like one person.",
        "samples_of_donor_differ": "Samples of one donor look like two people.",
        "samples_outlying": "Samples lie far from the others of a cell type; they are used all the same.",
    },
    "differential": {
        "size_factors_by_poscounts": "Every tested gene has a zero, so size factors are `poscounts`.",
        "few_genes_under_size_factors": "Size factors are medians over fewer than 50 genes.",
        "genes_not_converged": "Coefficients of tested genes did not converge.",
        "dispersion_trend_not_fitted": "One mean dispersion stands for the trend, which did not converge.",
    },
    "gsea": {
        "gene_sets_unknown": "Of a collection of gene sets fewer than 10 % of the genes are in the cohort.",
    },
    "ridge_summary": {
        "permutations_too_few": "One cell type alone cannot be significant with so few permutations.",
    },
}
CODES = {code: means for codes in BY_STEP.values() for code, means in codes.items()}
