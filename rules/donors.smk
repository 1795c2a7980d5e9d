# What changes with a covariate, cell type by cell type, with the sample as the unit.
checkpoint pseudobulk:
    """Sum the counts of kept cells per cell type and sample, and decide which types are tested."""
    input:
        shards=expand("<results>/load/shards/{shard}.h5ad", shard=SHARDS),
        cells="<results>/cells/cells.parquet",
        samples="<results>/load/samples.parquet",
        cell_types="<results>/filter/cell_types.tsv",
    output:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
    log:
        local("<logs>/pseudobulk.log"),
    benchmark:
        local("<benchmarks>/pseudobulk.tsv")
    resources:
        **requests("pseudobulk"),
    params:
        digest("donors/pseudobulk"),
        **config["pseudobulk"],
        covariates=list(COVARIATES),
    script:
        "../scripts/donors/pseudobulk.py"


rule samples:
    """Look at the samples before any test: sex, persons, components, covariates, outlying samples."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
        cells="<results>/cells/cells.parquet",
        samples="<results>/filter/samples.tsv",
        cohort="<results>/load/cohort.json",
    output:
        samples="<results>/samples/samples.tsv",
        pairs="<results>/samples/pairs.tsv",
        components="<results>/samples/components.parquet",
        distances="<results>/samples/distances.tsv",
        associations="<results>/samples/associations.tsv",
        variance="<results>/samples/variance.tsv",
        figure_components=report(
            "<results>/samples/components.png",
            caption="../workflow/captions/components.rst",
            category="Samples",
            labels={"figure": "components"},
        ),
        figure_associations=report(
            "<results>/samples/associations.png",
            caption="../workflow/captions/associations.rst",
            category="Samples",
            labels={"figure": "covariates and components"},
        ),
        figure_variance=report(
            "<results>/samples/variance.png",
            caption="../workflow/captions/variance.rst",
            category="Samples",
            labels={"figure": "shares of variance"},
        ),
        figure_sex=report(
            "<results>/samples/sex.png",
            caption="../workflow/captions/sex.rst",
            category="Samples",
            labels={"figure": "sex"},
        ),
        figure_pairs=report(
            "<results>/samples/pairs.png",
            caption="../workflow/captions/pairs.rst",
            category="Samples",
            labels={"figure": "persons"},
        ),
        warnings="<results>/warnings/samples.tsv",
    log:
        local("<logs>/samples.log"),
    benchmark:
        local("<benchmarks>/samples.tsv")
    resources:
        **requests("samples"),
    params:
        digest("donors/samples"),
        **config["samples"],
        random_state=config["random_state"],
        covariates=COVARIATES,
    script:
        "../scripts/donors/samples.py"


rule contrasts:
    """Check one contrast in every cell type: samples, rank, degrees of freedom, confounding."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
    output:
        cell_types="<results>/contrasts/{contrast}.tsv",
    log:
        local("<logs>/contrasts/{contrast}.log"),
    benchmark:
        local("<benchmarks>/contrasts/{contrast}.tsv")
    resources:
        **requests("contrasts"),
    params:
        digest("donors/contrasts"),
        contrast=lambda wildcards: CONTRASTS[wildcards.contrast],
        min_samples=config["pseudobulk"]["min_samples"],
        min_residual_df=config["differential"]["min_residual_df"],
        covariates=list(COVARIATES),
    script:
        "../scripts/donors/contrasts.py"


rule differential:
    """Test each gene of some cell types for one contrast with PyDESeq2."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
        cell_types="<results>/pseudobulk/cell_types.tsv",
        contrast="<results>/contrasts/{contrast}.tsv",
    output:
        genes="<results>/differential/{contrast}/{part}.parquet",
        status="<results>/differential/{contrast}/{part}.status.tsv",
        samples="<results>/differential/{contrast}/{part}.samples.tsv",
        filtered="<results>/differential/{contrast}/{part}.filtered.parquet",
        factors="<results>/differential/{contrast}/{part}.factors.tsv",
        warnings="<results>/warnings/differential/{contrast}/{part}.tsv",
    log:
        local("<logs>/differential/{contrast}/{part}.log"),
    benchmark:
        local("<benchmarks>/differential/{contrast}/{part}.tsv")
    resources:
        **requests("differential", times=config["differential"]["cell_types_per_job"]),
    params:
        digest("donors/differential"),
        **config["differential"],
        min_samples=config["pseudobulk"]["min_samples"],
        contrast=lambda wildcards: CONTRASTS[wildcards.contrast],
        covariates=list(COVARIATES),
    script:
        "../scripts/donors/differential.py"


rule synthesis:
    """Join the tests of one contrast over all cell types: shared and specific genes, figures."""
    input:
        genes=differential_tables,
        status=differential_status,
        cell_types="<results>/pseudobulk/cell_types.tsv",
    output:
        effects="<results>/synthesis/{contrast}/effects.parquet",
        genes="<results>/synthesis/{contrast}/genes.tsv",
        heatmap=report(
            "<results>/synthesis/{contrast}/heatmap.png",
            caption="../workflow/captions/heatmap.rst",
            category="Across cell types",
            labels={"contrast": "{contrast}", "figure": "effects"},
        ),
        volcano=report(
            "<results>/synthesis/{contrast}/volcano.png",
            caption="../workflow/captions/volcano.rst",
            category="Differential expression",
            labels={"contrast": "{contrast}", "figure": "volcano"},
        ),
        pvalues=report(
            "<results>/synthesis/{contrast}/pvalues.png",
            caption="../workflow/captions/pvalues.rst",
            category="Differential expression",
            labels={"contrast": "{contrast}", "figure": "p-values"},
        ),
        dispersions=report(
            "<results>/synthesis/{contrast}/dispersions.png",
            caption="../workflow/captions/dispersions.rst",
            category="Differential expression",
            labels={"contrast": "{contrast}", "figure": "dispersions"},
        ),
    log:
        local("<logs>/synthesis/{contrast}.log"),
    benchmark:
        local("<benchmarks>/synthesis/{contrast}.tsv")
    resources:
        **requests("synthesis"),
    params:
        digest("donors/synthesis"),
        **config["synthesis"],
    script:
        "../scripts/donors/synthesis.py"


rule composition:
    """Test whether the shares of cell types change with one contrast."""
    input:
        sums="<results>/pseudobulk/sums.h5ad",
    output:
        cell_types="<results>/composition/{contrast}/cell_types.tsv",
        status="<results>/composition/{contrast}/status.tsv",
        figure=report(
            "<results>/composition/{contrast}/odds_ratios.png",
            caption="../workflow/captions/composition.rst",
            category="Across cell types",
            labels={"contrast": "{contrast}", "figure": "composition"},
        ),
    log:
        local("<logs>/composition/{contrast}.log"),
    benchmark:
        local("<benchmarks>/composition/{contrast}.tsv")
    resources:
        **requests("composition"),
    params:
        digest("donors/composition"),
        **config["composition"],
        min_samples=config["pseudobulk"]["min_samples"],
        contrast=contrast_of_shares,
        covariates=list(COVARIATES),
    script:
        "../scripts/donors/composition.py"
