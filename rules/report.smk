# The page that a person reads: one HTML file that needs nothing else, from tables that are published too.


include: "reported.smk"


rule report:
    """Draw everything that was found into one page that opens anywhere."""
    input:
        files=reported_sources,
        limits=expand("<results>/qc/{shard}.limits.tsv", shard=SHARDS),
        doublets=expand("<results>/doublets/{shard}.status.tsv", shard=SHARDS),
        sample_figures=expand("<results>/samples/{figure}.png", figure=SAMPLE_FIGURES),
        umap="<results>/layout/umap.parquet",
        clusters=expand("<results>/cluster/resolution_{resolution}.parquet", resolution=RESOLUTIONS),
        stability=compared_variants,
        provenance="<results>/provenance.json",
    output:
        page=report(
            "<results>/report/report.html",
            caption="../workflow/captions/page.rst",
            category="All results on one page",
            labels={"figure": "page"},
        ),
    log:
        local("<logs>/report.log"),
    benchmark:
        local("<benchmarks>/report.tsv")
    resources:
        **requests("report"),
    params:
        digest("report/report"),
        **config["report"],
        page=hashlib.sha256(
            "".join(workflow_file(f"../scripts/report/page/{name}") for name in PAGE_FILES).encode()
        ).hexdigest(),
        files=reported_places,
        published=published_paths,
        contract=CONTRACT,
        covariates=COVARIATES,
        pool=bool(config["load"]["pool"]),
        gsea_fdr=config["gsea"]["fdr"],
        synthesis_fdr=config["synthesis"]["fdr"],
        resolutions=RESOLUTIONS,
    script:
        "../scripts/report/report.py"
