# How far the answers of the variants of a config agree with those of the run: `make sweep`, not part of all.


include: "variants.smk"


rule stability:
    """Compare the answers of each variant of the sweep with those of the run (`make sweep` makes them)."""
    input:
        tables=list(compared_tables().values()),
    output:
        table="<results>/sweep/stability.tsv",
        figure=report(
            "<results>/sweep/stability.png",
            caption="../workflow/captions/stability.rst",
            category="Stability",
            labels={"figure": "agreement of variants"},
        ),
    log:
        local("<logs>/stability.log"),
    benchmark:
        local("<benchmarks>/stability.tsv")
    resources:
        **requests("stability"),
    params:
        digest("sweep/stability"),
        **config["stability"],
        tables=[list(key) for key in compared_tables()],
        variants={name: describe_variant(overlay) for name, overlay in VARIANTS.items()},
    script:
        "../scripts/sweep/stability.py"
