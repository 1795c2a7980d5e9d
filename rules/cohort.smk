# From the user's file, a URL or the simulated demo to checked shards of whole donors.


rule simulate:
    """Draw the demo cohort with planted truth, its gene sets and its truth tables."""
    output:
        cohort="<results>/simulate/cohort.h5ad",
        gene_sets="<results>/simulate/gene_sets.gmt",
        genes="<results>/simulate/genes.tsv",
        effects="<results>/simulate/effects.tsv",
        cells="<results>/simulate/cells.parquet",
    log:
        local("<logs>/simulate.log"),
    benchmark:
        local("<benchmarks>/simulate.tsv")
    resources:
        **requests("simulate"),
    params:
        digest("cohort/simulate"),
        **config["simulate"],
        random_state=config["random_state"],
    script:
        "../scripts/cohort/simulate.py"


rule fetch:
    """Download the cohort file, resume where it stopped, and verify it."""
    output:
        cohort=downloaded_file(config["cohort"]["url"] or ".h5ad"),
    log:
        local("<logs>/fetch.log"),
    benchmark:
        local("<benchmarks>/fetch.tsv")
    resources:
        **requests("fetch"),
    params:
        digest("cohort/fetch"),
        url=config["cohort"]["url"],
        sha256=config["cohort"]["sha256"],
        size=config["cohort"]["size"],
    script:
        "../scripts/cohort/fetch.py"


rule load:
    """Check the cohort and write it as shards of whole donors."""
    input:
        cohort=cohort_files,
        sample_table=cohort_table("sample_table"),
        cell_table=cohort_table("cell_table"),
    output:
        shards=expand("<results>/load/shards/{shard}.h5ad", shard=SHARDS),
        cells="<results>/load/cells.parquet",
        samples="<results>/load/samples.parquet",
        genes="<results>/load/genes.parquet",
        cohort="<results>/load/cohort.json",
        warnings="<results>/warnings/load.tsv",
    log:
        local("<logs>/load.log"),
    benchmark:
        local("<benchmarks>/load.tsv")
    threads: 2
    resources:
        **requests("load"),
    params:
        digest("cohort/load"),
        **config["load"],
    script:
        "../scripts/cohort/load.py"


rule filter:
    """Decide which samples and cell types have enough cells, with a reason for each that has not."""
    input:
        cells="<results>/load/cells.parquet",
        samples="<results>/load/samples.parquet",
    output:
        samples="<results>/filter/samples.tsv",
        cell_types="<results>/filter/cell_types.tsv",
    log:
        local("<logs>/filter.log"),
    benchmark:
        local("<benchmarks>/filter.tsv")
    resources:
        **requests("filter"),
    params:
        digest("cohort/filter"),
        **config["filter"],
        covariates=list(COVARIATES),
    script:
        "../scripts/cohort/filter.py"
