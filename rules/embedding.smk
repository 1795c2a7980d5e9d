# The map of cells: variable genes, principal components, Harmony, neighbours, UMAP, clusters, markers.
# One long chain, so its jobs go first, on one thread each: a job that asks for every core waits until all are
# free at once, which on a laptop is after the many jobs of the donor branch. The slurm profile gives more.


rule preprocess:
    """Normalise kept cells, vote for variable genes and compute principal components."""
    input:
        shards=expand("<results>/load/shards/{shard}.h5ad", shard=SHARDS),
        cells="<results>/cells/cells.parquet",
        cohort="<results>/load/cohort.json",
    output:
        genes="<results>/preprocess/genes.parquet",
        batches="<results>/preprocess/batches.tsv",
        pca="<results>/preprocess/pca.parquet",
        loadings="<results>/preprocess/loadings.parquet",
        variance="<results>/preprocess/variance.tsv",
        warnings="<results>/warnings/preprocess.tsv",
    log:
        local("<logs>/preprocess.log"),
    benchmark:
        local("<benchmarks>/preprocess.tsv")
    priority: 1
    resources:
        **requests("preprocess"),
    params:
        digest("embedding/preprocess"),
        **config["preprocess"],
    script:
        "../scripts/embedding/preprocess.py"


rule dimred:
    """Harmonise the components over a batch and link each cell to its nearest ones."""
    input:
        pca="<results>/preprocess/pca.parquet",
        cells="<results>/cells/cells.parquet",
    output:
        harmony="<results>/dimred/harmony.parquet",
        neighbors="<results>/dimred/neighbors.h5ad",
        status="<results>/dimred/status.tsv",
        warnings="<results>/warnings/dimred.tsv",
    log:
        local("<logs>/dimred.log"),
    benchmark:
        local("<benchmarks>/dimred.tsv")
    priority: 1
    resources:
        **requests("dimred"),
    params:
        digest("embedding/dimred"),
        **config["dimred"],
        random_state=config["random_state"],
    script:
        "../scripts/embedding/dimred.py"


rule layout:
    """Lay the neighbour graph out in two dimensions by UMAP and draw it by cell type."""
    input:
        neighbors="<results>/dimred/neighbors.h5ad",
        harmony="<results>/dimred/harmony.parquet",
        cells="<results>/cells/cells.parquet",
    output:
        umap="<results>/layout/umap.parquet",
        status="<results>/layout/status.tsv",
        figure=report(
            "<results>/layout/umap.png",
            caption="../workflow/captions/umap.rst",
            category="Map of cells",
            labels={"figure": "UMAP by cell type"},
        ),
    log:
        local("<logs>/layout.log"),
    benchmark:
        local("<benchmarks>/layout.tsv")
    priority: 1
    resources:
        **requests("layout"),
    params:
        digest("embedding/layout"),
        **config["layout"],
        random_state=config["random_state"],
    script:
        "../scripts/embedding/layout.py"


rule cluster:
    """Cluster the neighbour graph at one resolution and compare with the given labels."""
    input:
        neighbors="<results>/dimred/neighbors.h5ad",
        cells="<results>/cells/cells.parquet",
    output:
        clusters="<results>/cluster/resolution_{resolution}.parquet",
        agreement="<results>/cluster/resolution_{resolution}.agreement.tsv",
        contingency="<results>/cluster/resolution_{resolution}.contingency.tsv",
    log:
        local("<logs>/cluster/resolution_{resolution}.log"),
    benchmark:
        local("<benchmarks>/cluster/resolution_{resolution}.tsv")
    resources:
        **requests("cluster"),
    params:
        digest("embedding/cluster"),
        random_state=config["random_state"],
        n_iterations=config["cluster"]["n_iterations"],
        resolution=lambda wildcards: float(wildcards.resolution),
    script:
        "../scripts/embedding/cluster.py"


rule markers:
    """Rank the genes that mark each cluster of every resolution."""
    input:
        shards=expand("<results>/load/shards/{shard}.h5ad", shard=SHARDS),
        clusters=expand("<results>/cluster/resolution_{resolution}.parquet", resolution=RESOLUTIONS),
    output:
        markers=expand("<results>/markers/resolution_{resolution}.parquet", resolution=RESOLUTIONS),
    log:
        local("<logs>/markers.log"),
    benchmark:
        local("<benchmarks>/markers.tsv")
    resources:
        **requests("markers"),
    params:
        digest("embedding/markers"),
        **config["markers"],
        target_sum=config["preprocess"]["target_sum"],
    script:
        "../scripts/embedding/markers.py"
