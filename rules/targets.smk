# What can be asked for by name. The default, all, is in the Snakefile.


localrules:
    cells_only,
    embedding_only,
    donors_only,


rule cells_only:
    """Which cells can be trusted, and what was lost."""
    input:
        "<results>/cells/attrition.tsv",


rule embedding_only:
    """The map of cells: components, neighbours, UMAP, clusters, markers."""
    input:
        embedding,


rule donors_only:
    """What changes per cell type: sums, differential expression, gene sets, prediction."""
    input:
        answers,
