# Which cells can be trusted.


rule qc:
    """Measure each cell of one shard and mark those that fail."""
    input:
        shard="<results>/load/shards/{shard}.h5ad",
        cohort="<results>/load/cohort.json",
    output:
        cells="<results>/qc/{shard}.parquet",
        limits="<results>/qc/{shard}.limits.tsv",
        warnings="<results>/warnings/qc/{shard}.tsv",
    log:
        local("<logs>/qc/{shard}.log"),
    benchmark:
        local("<benchmarks>/qc/{shard}.tsv")
    resources:
        **requests("qc"),
    params:
        digest("cells/qc"),
        **config["qc"],
    script:
        "../scripts/cells/qc.py"


rule doublets:
    """Score doublets with Scrublet in each donor or pool of one shard."""
    input:
        shard="<results>/load/shards/{shard}.h5ad",
        qc="<results>/qc/{shard}.parquet",
    output:
        cells="<results>/doublets/{shard}.parquet",
        status="<results>/doublets/{shard}.status.tsv",
        warnings="<results>/warnings/doublets/{shard}.tsv",
    log:
        local("<logs>/doublets/{shard}.log"),
    benchmark:
        local("<benchmarks>/doublets/{shard}.tsv")
    resources:
        **requests("doublets"),
    params:
        digest("cells/doublets"),
        **config["doublets"],
        random_state=config["random_state"],
    script:
        "../scripts/cells/doublets.py"


rule cells:
    """Join every decision about a cell and count what was lost where, and why."""
    input:
        cells="<results>/load/cells.parquet",
        samples="<results>/filter/samples.tsv",
        cell_types="<results>/filter/cell_types.tsv",
        qc=expand("<results>/qc/{shard}.parquet", shard=SHARDS),
        doublets=expand("<results>/doublets/{shard}.parquet", shard=SHARDS),
        thresholds=expand("<results>/doublets/{shard}.status.tsv", shard=SHARDS),
    output:
        cells="<results>/cells/cells.parquet",
        attrition="<results>/cells/attrition.tsv",
        warnings="<results>/warnings/cells.tsv",
    log:
        local("<logs>/cells.log"),
    benchmark:
        local("<benchmarks>/cells.tsv")
    resources:
        **requests("cells"),
    params:
        digest("cells/cells"),
        **config["cells"],
        covariates=list(COVARIATES),
    script:
        "../scripts/cells/cells.py"
