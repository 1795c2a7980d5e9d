# Which gene sets change, with the tested genes as background and GMT files on disk.


rule gsea:
    """Rank one cell type's genes by their Wald statistic and test each gene set along the ranking."""
    input:
        genes="<results>/differential/{contrast}/{cell_type}.parquet",
        gene_sets=gene_sets,
    output:
        terms="<results>/gsea/{contrast}/{cell_type}.parquet",
        status="<results>/gsea/{contrast}/{cell_type}.status.tsv",
        figure="<results>/gsea/{contrast}/{cell_type}.png",
    log:
        local("<logs>/gsea/{contrast}/{cell_type}.log"),
    benchmark:
        "<benchmarks>/gsea/{contrast}/{cell_type}.tsv"
    threads: 1
    resources:
        mem_mb=mem_mb("gsea"),
        runtime=runtime("gsea"),
        attempt=attempt,
    params:
        glue("gsea"),
        **config["gsea"],
        random_state=config["random_state"],
    script:
        "../scripts/gsea.py"


rule overrepresentation:
    """Test each gene set for more up- or down-regulated genes than the tested genes would give."""
    input:
        genes="<results>/differential/{contrast}/{cell_type}.parquet",
        gene_sets=gene_sets,
    output:
        terms="<results>/overrepresentation/{contrast}/{cell_type}.parquet",
        status="<results>/overrepresentation/{contrast}/{cell_type}.status.tsv",
        figure="<results>/overrepresentation/{contrast}/{cell_type}.png",
    log:
        local("<logs>/overrepresentation/{contrast}/{cell_type}.log"),
    benchmark:
        "<benchmarks>/overrepresentation/{contrast}/{cell_type}.tsv"
    threads: 1
    resources:
        mem_mb=mem_mb("overrepresentation"),
        runtime=runtime("overrepresentation"),
        attempt=attempt,
    params:
        glue("overrepresentation"),
        **config["overrepresentation"],
    script:
        "../scripts/overrepresentation.py"
