# What others may rely on, in one verified release. The list of its files: workflow/schemas/publish.yaml.


include: "release.smk"


localrules:
    provenance,
    warning_table,


rule provenance:
    """Write down what this run is made of: version, commit, config and digests."""
    output:
        provenance="<results>/provenance.json",
    log:
        local("<logs>/provenance.log"),
    benchmark:
        local("<benchmarks>/provenance.tsv")
    resources:
        **requests("provenance"),
    params:
        digest("publish/provenance"),
        workflow_version=workflow_file("../workflow/VERSION").strip(),
        commit=commit_of(CHECKOUT),
        dirty=is_dirty(CHECKOUT),
        code_sha256=code_sha256(CHECKOUT),
        lock_sha256=lock_sha256(CHECKOUT),
        packages={name: metadata.version(name) for name in PACKAGES},
        config=published_config(config),
    script:
        "../scripts/publish/provenance.py"


rule warning_table:
    """Put the warnings of all jobs into one table; stop at one that the config makes an error."""
    input:
        tables=warning_tables,
    output:
        table="<results>/warnings.tsv",
    log:
        local("<logs>/warning_table.log"),
    benchmark:
        local("<benchmarks>/warning_table.tsv")
    resources:
        **requests("warning_table"),
    params:
        digest("publish/warning_table"),
        **config["warnings"],
    script:
        "../scripts/publish/warning_table.py"


rule publish:
    """Gather what others may rely on into one release, verify it and switch to it at once."""
    input:
        files=published_sources,
        cells="<results>/cells/cells.parquet",
        samples="<results>/filter/samples.tsv",
        genes="<results>/load/genes.parquet",
        clusters=expand("<results>/cluster/resolution_{resolution}.parquet", resolution=RESOLUTIONS),
        pca="<results>/preprocess/pca.parquet",
        harmony="<results>/dimred/harmony.parquet",
        umap="<results>/layout/umap.parquet",
        shards=(
            expand("<results>/load/shards/{shard}.h5ad", shard=SHARDS) if config["publish"]["counts"] else []
        ),
        provenance="<results>/provenance.json",
        cohort=cohort_files,
        gene_sets=gene_sets,
    output:
        release=local("<results>/publish/release.json"),
    log:
        local("<logs>/publish.log"),
    benchmark:
        local("<benchmarks>/publish.tsv")
    resources:
        **requests("publish"),
    params:
        digest("publish/publish"),
        **config["publish"],
        files=published_places,
        resolutions=RESOLUTIONS,
        covariates=list(COVARIATES),
        contract=CONTRACT,
    script:
        "../scripts/publish/publish.py"
