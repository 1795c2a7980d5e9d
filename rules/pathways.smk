# Which gene sets change, with the tested genes as background and GMT files on disk.


rule gsea:
    """Rank the genes of each cell type by their Wald statistic and test each gene set along the rankings."""
    input:
        genes=differential_tables,
        cell_types="<results>/pseudobulk/cell_types.tsv",
        gene_sets=gene_sets,
        cohort="<results>/load/genes.parquet",
    output:
        terms="<results>/gsea/{contrast}/terms.parquet",
        status="<results>/gsea/{contrast}/status.tsv",
        figure=report(
            "<results>/gsea/{contrast}/terms.png",
            caption="../workflow/captions/gsea.rst",
            category="Gene sets",
            labels={"contrast": "{contrast}", "figure": "gsea"},
        ),
        warnings="<results>/warnings/gsea/{contrast}.tsv",
    log:
        local("<logs>/gsea/{contrast}.log"),
    benchmark:
        local("<benchmarks>/gsea/{contrast}.tsv")
    resources:
        **requests("gsea"),
    params:
        digest("pathways/gsea"),
        **config["gsea"],
        random_state=config["random_state"],
    script:
        "../scripts/pathways/gsea.py"


rule overrepresentation:
    """Test each gene set for more raised or lowered genes of a cell type than its tested genes would give."""
    input:
        genes=differential_tables,
        cell_types="<results>/pseudobulk/cell_types.tsv",
        gene_sets=gene_sets,
    output:
        terms="<results>/overrepresentation/{contrast}/terms.parquet",
        status="<results>/overrepresentation/{contrast}/status.tsv",
        figure=report(
            "<results>/overrepresentation/{contrast}/terms.png",
            caption="../workflow/captions/overrepresentation.rst",
            category="Gene sets",
            labels={"contrast": "{contrast}", "figure": "overrepresentation"},
        ),
    log:
        local("<logs>/overrepresentation/{contrast}.log"),
    benchmark:
        local("<benchmarks>/overrepresentation/{contrast}.tsv")
    resources:
        **requests("overrepresentation"),
    params:
        digest("pathways/overrepresentation"),
        **config["overrepresentation"],
    script:
        "../scripts/pathways/overrepresentation.py"
