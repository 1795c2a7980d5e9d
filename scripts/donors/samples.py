"""Look at the samples before any test: sizes, sex, persons, components, covariates and outlying samples.

Every number comes from the sums of kept cells per cell type and sample and from the tables of cells.
Components, covariates and outlying samples are computed in each tested cell type over the samples that take
part, and once more over the sums of all cell types (cell_type ""), which also follow the composition of a
sample. Genes have a median count of min_count at least; components are of the n_top_genes that vary most
beyond counting. Nothing is dropped here. Formulas and sources are in the modules that compute: _expression,
_components, _variance_shares, _sex, _same_person.
"""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd

from donors._same_person import (
    compare_samples,
    list_pairs,
    z_limit,
)
from donors._sample_table import Totals, describe_samples, whole_samples
from donors._samples_figures import (
    draw_associations,
    draw_components,
    draw_pairs,
    draw_sex,
    draw_variance,
)
from donors._sex import compare_sex, show_sex, state_sex
from donors._sums import (
    LEAST_SAMPLES,
    Sums,
    correlate_samples,
    find_components,
    list_covariates,
    prepare_sums,
    tabulate_associations,
    tabulate_distances,
    tabulate_scores,
    tabulate_variance,
)
from files import (
    match_symbols,
    read_cell_types,
    read_genes,
    read_obs,
    read_species,
    read_tsv,
    read_types,
    save_figure,
    write_tsv,
)
from job import conclude, job, warn

NAMED = 5  # samples or pairs in a warning


def find_sex_genes(
    symbols: pd.Series, sex_genes: dict[str, dict[str, str]], species: str
) -> dict[str, np.ndarray]:
    """Which genes (bool) are the female and the male ones; none for a species without patterns."""
    patterns = sex_genes.get(species, {})
    return {
        sex: match_symbols(symbols, patterns[sex], f"samples.sex_genes.{species}.{sex}").to_numpy()
        if sex in patterns
        else np.zeros(len(symbols), dtype=bool)
        for sex in ("female", "male")
    }


def check_sex(
    totals: Totals,
    is_sex_gene: dict[str, np.ndarray],
    levels: pd.Series | None,
    sex_levels: dict[str, list[str]],
    *,
    margin: float,
) -> pd.DataFrame:
    """By sample: genes, counts of the female and male genes, log2 ratio, sex shown and stated, and the check.

    levels: stated sex of each sample of totals; None where no covariate has the name of the setting. The
    check is `no_genes` where the cohort lacks the genes of either sex.
    """
    counts = {sex: totals.column_sums(genes) for sex, genes in is_sex_gene.items()}
    table = pd.DataFrame({"sample": totals.samples, "genes": totals.genes()})
    table = table.assign(female_counts=counts["female"], male_counts=counts["male"])
    level = pd.Series("", table.index) if levels is None else levels.reset_index(drop=True)
    stated = state_sex(level, sex_levels)
    if not all(genes.any() for genes in is_sex_gene.values()):
        return table.assign(log2_ratio=np.nan, sex_shown="", sex_stated=stated, sex_check="no_genes")
    shown = show_sex(counts["female"], counts["male"], margin=margin)
    return table.assign(
        log2_ratio=shown["log2_ratio"],
        sex_shown=shown["sex"],
        sex_stated=stated,
        sex_check=compare_sex(shown["sex"], stated, level),
    )


def name_first(names: list[str]) -> str:
    """`a, b and 3 more`."""
    more = f" and {len(names) - NAMED} more" * (len(names) > NAMED)
    return ", ".join(names[:NAMED]) + more


def name_pairs(pairs: pd.DataFrame, check: str) -> tuple[str, int]:
    """The first pairs of a check in words, and how many there are."""
    rows = pairs[pairs["check"] == check]
    return name_first([f"{r.sample} and {r.other} (z {r.z:.1f})" for r in rows.itertuples()]), len(rows)


def warn_of_samples(table: pd.DataFrame, pairs: pd.DataFrame, distances: pd.DataFrame) -> None:
    """Warn of contradicted sex, of pairs that look like one person or two, and of outlying samples."""
    wrong = table[table["sex_check"] == "contradicts"]
    if len(wrong):
        named = name_first(
            [f"{r.sample} (stated {r.sex_stated}, shows {r.sex_shown})" for r in wrong.itertuples()]
        )
        what = f"the sex of {len(wrong)} of {len(table)} samples is not the one stated: {named}"
        warn("sex_contradicts_expression", what, count=len(wrong), setting="samples.sex")
    named, number = name_pairs(pairs, "alike")
    if number:
        what = f"samples of different donors look like one person: {named}"
        warn("donors_look_like_one", what, count=number, setting="samples.alpha")
    named, number = name_pairs(pairs, "not_alike")
    if number:
        what = f"samples of one donor look like two people: {named}"
        warn("samples_of_donor_differ", what, count=number, setting="load.donor")
    far = distances[distances["outlying"]].groupby("sample", sort=True)["cell_type"]
    if len(far):
        where = far.agg(lambda ids: ", ".join(id or "all cell types" for id in ids))
        named = name_first([f"{sample} ({place})" for sample, place in where.items()])
        what = (
            f"{len(where)} of {len(table)} samples lie far from the others and are used all the same: {named}"
        )
        warn("samples_outlying", what, count=len(where), setting="samples.alpha")


def gather_sums(path: str, ids: list[str], tested: list[str], samples: pd.DataFrame, is_sex_gene, min_count):
    """The prepared sums of each tested cell type, those of all together last, and the totals of the samples.

    samples: obs of samples over all cell types, those with a kept cell.
    """
    totals, prepared, numbers = Totals(samples["sample"].astype(str).tolist()), [], is_sex_gene
    for cell_type, (counts, obs, _) in zip(ids, read_types(path, ids), strict=True):
        totals.add_(counts, obs["sample"])
        if cell_type in tested:
            used = obs["used"].to_numpy()
            prepared.append(prepare_sums(cell_type, counts[used], obs[used], numbers, min_count))
    return [*prepared, prepare_sums("", totals.counts, samples, numbers, min_count)], totals


def examine(
    prepared: list[Sums], covariates: dict[str, str], *, alpha: float, random_state: int, **settings
) -> tuple[dict[str, pd.DataFrame], np.ndarray]:
    """Tables of scores, distances, associations and variance over all cell types.

    prepared: from gather_sums; covariates: name -> kind of the config.
    """
    tables = {name: [] for name in ("components", "distances", "associations", "variance")}
    for sums in prepared:
        kinds = list_covariates(sums.obs, covariates)
        scores, shares = find_components(
            sums, n_top_genes=settings["n_top_genes"], n_comps=settings["n_comps"]
        )
        tables["components"].append(tabulate_scores(sums, scores, shares))
        tables["distances"].append(tabulate_distances(sums, scores, alpha=alpha, random_state=random_state))
        limits = {"permutations": settings["permutations"], "random_state": random_state}
        tables["associations"].append(tabulate_associations(sums, scores, kinds, **limits))
        tables["variance"].append(tabulate_variance(sums, kinds))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def pair_samples(
    prepared: list[Sums],
    covariates: dict[str, str],
    samples: pd.DataFrame,
    *,
    alpha,
    random_state,
    n_top_genes,
) -> pd.DataFrame:
    """Pairs of samples that matter (list_pairs), from the cell types without the sums over all types."""
    names = pd.Index(samples["sample"].astype(str))
    donors = np.unique(samples["donor"].astype(str), return_inverse=True)[1]
    correlations = []
    for sums in prepared[:-1]:
        if len(sums.obs) >= LEAST_SAMPLES:
            correlation = correlate_samples(sums, list_covariates(sums.obs, covariates), n_top_genes)
            correlations.append((names.get_indexer(sums.obs["sample"].astype(str)), correlation))
    limit = z_limit(len(names), alpha, random_state) if len(names) >= LEAST_SAMPLES else np.nan
    return list_pairs(compare_samples(correlations, donors), names.to_numpy(), donors, limit)


def summarise(table: pd.DataFrame, pairs: pd.DataFrame, sets: int) -> str:
    """`samples: 36 in 7 sets; 1 lies far out; sex agrees 35, contradicts 1; 0 pairs look like one person`."""
    checks = ", ".join(f"{name} {n}" for name, n in table["sex_check"].value_counts().sort_index().items())
    alike, differ = ((pairs["check"] == name).sum() for name in ("alike", "not_alike"))
    return (
        f"samples: {len(table)}, {int((table['outlying_in'] != '').sum())} far out in one of {sets} "
        f"sets; sex: {checks}; {alike} pairs of donors look like one person, {differ} of one donor do not"
    )


def join_tables(
    table: pd.DataFrame, sexes: pd.DataFrame, pairs: pd.DataFrame, distances: pd.DataFrame
) -> pd.DataFrame:
    """The table of samples with sex, nearest sample of another donor, and where a sample lies far out.

    A sample without a kept cell has sex_check `no_cells`.
    """
    table = table.merge(sexes, on="sample", how="left")
    text = {"sex_check": "no_cells", "sex_shown": "", "sex_stated": ""}
    table = table.fillna(text).astype({name: "Int64" for name in ("female_counts", "male_counts", "genes")})
    other = pairs[~pairs["same_donor"].astype(bool)]
    both = pd.concat([other, other.rename(columns={"sample": "other", "other": "sample"})])
    nearest = both.sort_values("z", kind="stable").drop_duplicates("sample", keep="last")
    nearest = nearest.set_index("sample")
    table["nearest"] = table["sample"].map(nearest["other"].to_dict()).astype(object).fillna("")
    table["nearest_z"] = table["sample"].map(nearest["z"].to_dict()).astype(float)
    far = distances[distances["outlying"]].groupby("sample")["cell_type"]
    far = {sample: "; ".join(id or "all" for id in ids) for sample, ids in far}
    table["outlying_in"] = [far.get(sample, "") for sample in table["sample"]]
    return table


if __name__ == "__main__":
    with job(snakemake) as out:
        files, params = snakemake.input, dict(snakemake.params.items())
        covariates, species = params["covariates"], read_species(files.cohort)
        obs, types, listed = read_obs(files.sums), read_cell_types(files.cell_types), read_tsv(files.samples)
        wanted = ["sample", "total_counts", "pct_counts_mt", "doublet", "kept"]
        table = describe_samples(pd.read_parquet(files.cells, columns=wanted), obs, listed)
        samples, symbols = whole_samples(obs, list(covariates)), read_genes(files.sums)["symbol"]
        is_sex_gene = find_sex_genes(symbols, params["sex_genes"], species)
        tested = types.loc[types["tested"], "id"].tolist()
        ids = [name for name in types["id"] if (obs["cell_type"] == name).any()]
        keys = ("alpha", "random_state", "n_top_genes")
        limits = {name: params[name] for name in keys}
        prepared, totals = gather_sums(
            files.sums, ids, tested, samples, is_sex_gene["female"] | is_sex_gene["male"], params["min_count"]
        )
        levels = samples[params["sex"]] if params["sex"] in covariates else None
        sexes = check_sex(totals, is_sex_gene, levels, params["sex_levels"], margin=params["sex_margin"])
        tables = examine(
            prepared, covariates, n_comps=params["n_comps"], permutations=params["permutations"], **limits
        )
        pairs = pair_samples(prepared, covariates, samples, **limits)
        table = join_tables(table, sexes, pairs, tables["distances"])
        warn_of_samples(table, pairs, tables["distances"])
        write_tsv(table, out.samples)
        write_tsv(pairs, out.pairs)
        tables["components"].to_parquet(out.components, index=False)
        for name in ("distances", "associations", "variance"):
            write_tsv(tables[name], getattr(out, name))
        labels = types.set_index("id")["label"].to_dict() | {"": "all cell types"}
        values = samples.set_index("sample")[list(list_covariates(samples, covariates))]
        kinds = list_covariates(samples, covariates)
        save_figure(draw_components(tables, values, kinds, labels), out.figure_components)
        save_figure(draw_associations(tables["associations"], labels), out.figure_associations)
        save_figure(draw_variance(tables["variance"], labels), out.figure_variance)
        save_figure(draw_sex(table), out.figure_sex)
        save_figure(draw_pairs(pairs), out.figure_pairs)
        conclude(summarise(table, pairs, len(prepared)))
