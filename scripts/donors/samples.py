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
from typing import NamedTuple

import numpy as np
import pandas as pd

from donors._components import (
    WIDER,
    associate,
    distance_limit,
    indicator,
    is_constant_within,
    principal_components,
    robust_distances,
)
from donors._expression import choose_genes, equalise, log_cpm, reliable_genes
from donors._same_person import (
    compare_samples,
    correlate,
    expect_correlation,
    leftover,
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
from donors._variance_shares import sequential_shares
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

TECHNICAL = ["log_cells", "log_depth", "pct_counts_mt"]  # of a sum, numbers
LEAST_SAMPLES, LEAST_GENES = 4, 20  # for components
NAMED = 5  # samples or pairs in a warning


class Sums(NamedTuple):
    """The sums of one cell type, or of all of them, over the samples that take part."""

    cell_type: str  # id; "" for all cell types
    counts: np.ndarray  # (samples, genes) of the genes that are counted often enough
    values: np.ndarray  # (samples, genes) log2 counts per million
    is_sex_gene: np.ndarray  # (genes,)
    obs: pd.DataFrame  # sample, donor, pool, covariates, TECHNICAL


def prepare(cell_type: str, counts, obs: pd.DataFrame, is_sex_gene: np.ndarray, min_count: float) -> Sums:
    """Log expression of the genes that are counted often enough. counts: (samples, all genes) sparse."""
    dense = counts.toarray()
    genes = choose_genes(dense, min_count=min_count)
    values = log_cpm(dense[:, genes], dense.sum(axis=1))
    return Sums(cell_type, dense[:, genes], values, is_sex_gene[genes], obs.reset_index(drop=True))


def list_covariates(obs: pd.DataFrame, covariates: dict[str, str]) -> dict[str, bool]:
    """Names of what may go with the expression, in order, and whether each is a number.

    Covariates of the config, the pool where there is one, the donor where donors have several samples.
    """
    kinds = {name: kind != "categorical" for name, kind in covariates.items()}
    if (obs["pool"].astype(object).fillna("").astype(str) != "").any():
        kinds["pool"] = False
    if obs["donor"].duplicated().any():
        kinds["donor"] = False
    return kinds


def is_given(values: pd.Series) -> np.ndarray:
    """Which values are not missing."""
    return (values.notna() & (values.astype(object) != "")).to_numpy()


def find_components(sums: Sums, *, n_top_genes: int, n_comps: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (samples, k) and shares of the variance; no column where there are too few samples or genes."""
    if len(sums.obs) < LEAST_SAMPLES or sums.values.shape[1] < LEAST_GENES:
        return np.zeros((len(sums.obs), 0)), np.zeros(0)
    genes = reliable_genes(sums.counts, sums.values, n_top_genes)
    values = equalise(sums.values[:, genes], sums.counts[:, genes])
    return principal_components(values, min(n_comps, len(values) - 2))


def table_of_scores(sums: Sums, scores: np.ndarray, shares: np.ndarray) -> pd.DataFrame:
    """A row per sample and component."""
    k = len(shares)
    return pd.DataFrame(
        {
            "cell_type": sums.cell_type,
            "sample": np.repeat(sums.obs["sample"].astype(str).to_numpy(), k),
            "component": np.tile(np.arange(1, k + 1), len(sums.obs)),
            "score": scores.ravel(),
            "variance": np.tile(shares, len(sums.obs)),
        }
    )


def table_of_distances(sums: Sums, scores: np.ndarray, *, alpha: float, random_state: int) -> pd.DataFrame:
    """Robust distance of each sample, its limit, and whether the sample lies beyond it."""
    n, k = scores.shape
    distance = robust_distances(scores) if k else np.full(n, np.nan)
    limit = WIDER * distance_limit(n, k, alpha, random_state) if k else np.nan
    return pd.DataFrame(
        {
            "cell_type": sums.cell_type,
            "sample": sums.obs["sample"].astype(str),
            "distance": distance,
            "limit": limit,
            "outlying": distance > limit,
        }
    )


def table_of_associations(
    sums: Sums, scores: np.ndarray, kinds: dict[str, bool], *, permutations: int, random_state: int
) -> pd.DataFrame:
    """R2 and p-value of each covariate and component; a covariate that cannot be compared has neither."""
    rng = np.random.default_rng([random_state, len(sums.obs), *sums.cell_type.encode()])
    tables = []
    for name, is_number in (kinds | dict.fromkeys(TECHNICAL, True)).items():
        given = is_given(sums.obs[name])
        own = sums.obs.loc[given, name].reset_index(drop=True)
        donors = sums.obs.loc[given, "donor"].astype(str).to_numpy()
        if scores.shape[1] and given.sum() >= LEAST_SAMPLES:
            r2, pvalue, unit = associate(
                scores[given], own, donors, is_number=is_number, permutations=permutations, rng=rng
            )
        else:
            r2 = pvalue = np.full(scores.shape[1], np.nan)
            unit = ""
        about = {"cell_type": sums.cell_type, "covariate": name, "samples": int(given.sum())}
        found = {"component": np.arange(1, scores.shape[1] + 1), "r2": r2, "pvalue": pvalue, "permuted": unit}
        tables.append(pd.DataFrame(about | found))
    return pd.concat(tables, ignore_index=True)


def table_of_variance(sums: Sums, kinds: dict[str, bool]) -> pd.DataFrame:
    """Quartiles over genes of the share of variance of each covariate, in order, and of the residual.

    Samples without a value of some covariate that varies are left out. None where no degree of freedom of the
    residual is left or there are too few genes.
    """
    columns = ["cell_type", "covariate", "place", "samples", "genes", "df", "expected", "low", "median"]
    columns += ["high", "mean"]
    names = [name for name in kinds if sums.obs[name][is_given(sums.obs[name])].drop_duplicates().size > 1]
    given = np.logical_and.reduce([np.ones(len(sums.obs), bool), *(is_given(sums.obs[n]) for n in names)])
    values = sums.values[given]
    values = values[:, values.std(axis=0) > 0] if len(values) else values
    if given.sum() < LEAST_SAMPLES or values.shape[1] < LEAST_GENES:
        return pd.DataFrame(columns=columns)
    blocks = [indicator(sums.obs.loc[given, name], is_number=kinds[name]) for name in names]
    shares, df = sequential_shares(values, blocks)
    if df[-1] < 1:
        return pd.DataFrame(columns=columns)
    low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=1)
    table = {"cell_type": sums.cell_type, "covariate": [*names, "residual"]}
    table |= {"place": np.arange(1, len(names) + 2), "samples": int(given.sum()), "genes": values.shape[1]}
    table |= {"df": df, "expected": df / (given.sum() - 1), "low": low, "median": middle, "high": high}
    return pd.DataFrame(table | {"mean": shares.mean(axis=1)})[columns]


def stands_for_donor(values: pd.Series, donors: pd.Series) -> bool:
    """Whether each level has one donor, so that removing it would remove what differs between donors."""
    return is_constant_within(donors, values.astype(str).to_numpy())


def correlation_of(sums: Sums, kinds: dict[str, bool], n_top_genes: int) -> np.ndarray:
    """(samples, samples) correlation over genes that differ between samples beyond counting and covariates.

    Covariates that stand for the donor stay in, and so do those beyond a third of the samples as columns.
    """
    n, columns = len(sums.obs), np.zeros((len(sums.obs), 0))
    for name, is_number in kinds.items():
        values = sums.obs[name]
        if name == "donor" or not is_given(values).any():
            continue
        if is_number:
            new = values.astype(float).fillna(values.astype(float).mean()).to_numpy()[:, None]
        elif stands_for_donor(values, sums.obs["donor"]):
            continue
        else:
            new = indicator(values.astype(object).fillna("").astype(str), is_number=False)
        if columns.shape[1] + new.shape[1] <= n / 3:
            columns = np.hstack([columns, new])
    own = ~sums.is_sex_gene
    projection = leftover(columns)
    values = projection @ sums.values[:, own]
    genes = reliable_genes(sums.counts[:, own], values, n_top_genes)
    return correlate(values[:, genes]) - expect_correlation(projection)


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
            prepared.append(prepare(cell_type, counts[used], obs[used], numbers, min_count))
    return [*prepared, prepare("", totals.counts, samples, numbers, min_count)], totals


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
        tables["components"].append(table_of_scores(sums, scores, shares))
        tables["distances"].append(table_of_distances(sums, scores, alpha=alpha, random_state=random_state))
        limits = {"permutations": settings["permutations"], "random_state": random_state}
        tables["associations"].append(table_of_associations(sums, scores, kinds, **limits))
        tables["variance"].append(table_of_variance(sums, kinds))
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
            correlation = correlation_of(sums, list_covariates(sums.obs, covariates), n_top_genes)
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
