import re
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from cohort import _demo_genes, simulate
from job import InputError
from workflow.defaults import complete_config

# anndata 0.13 asks pandas for an option that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")

CONFIG = complete_config(Path(__file__).parents[3], [])
SETTINGS = CONFIG["simulate"] | {"random_state": CONFIG["random_state"]}


@pytest.fixture(scope="module")
def demo():
    return simulate.simulate(**SETTINGS)


@pytest.fixture(scope="module")
def data(demo):
    return demo[0]


def share_of(data, mask):
    """Share of each cell's counts that lies in the genes of a mask."""
    return np.asarray(data.X[:, mask].sum(axis=1)).ravel() / np.asarray(data.X.sum(axis=1)).ravel()


def log_share(data, cells):
    """Log2 share of each gene in the summed counts of some cells."""
    sums = np.asarray(data.X[cells].sum(axis=0), dtype=float).ravel() + 0.5
    return np.log2(sums / sums.sum())


def test_matrix_and_columns_are_those_of_a_cellxgene_file(data):
    assert data.X.format == "csr"
    assert data.X.dtype == np.int32
    assert data.X.data.min() == 1
    assert data.n_vars == SETTINGS["genes"]
    assert data.obs_names.is_unique
    assert data.var_names.is_unique
    assert data.var_names.str.fullmatch(r"ENSG\d{11}").all()
    assert list(data.obs) == ["donor_id", "cell_type", "age", "sex", "pool_number", "development_stage"]
    assert (data.obs["development_stage"] == data.obs["age"].map("{}-year-old stage".format)).all()
    assert 800 < np.median(np.asarray(data.X.sum(axis=1))) < 1500


def test_h5ad_round_trip_keeps_everything(demo, tmp_path):
    data = demo[0]
    data.write_h5ad(tmp_path / "cohort.h5ad", compression="gzip")
    with h5py.File(tmp_path / "cohort.h5ad") as file:
        for table in (file["obs"], file["var"]):
            assert table[table.attrs["_index"]].attrs["encoding-type"] == "string-array"
            assert table.attrs["_index"] == "_index"
        assert file["var/feature_name"].attrs["encoding-type"] == "categorical"
    again = ad.read_h5ad(tmp_path / "cohort.h5ad")
    assert (again.X != data.X).nnz == 0
    for column in data.obs:
        assert (again.obs[column].astype(str) == data.obs[column].astype(str)).all()
    assert list(again.var["feature_name"]) == list(data.var["feature_name"])


def test_donors_have_one_value_each_and_span_the_ages(data):
    donors = data.obs[["donor_id", "age", "sex", "pool_number"]].drop_duplicates().set_index("donor_id")
    assert donors.index.is_unique
    assert len(donors) == SETTINGS["donors"]
    assert [donors["age"].min(), donors["age"].max()] == SETTINGS["age_range"]
    assert donors["sex"].value_counts().to_dict() == {"female": 18, "male": 18}
    assert donors["pool_number"].value_counts().to_dict() == {"1": 18, "2": 18}


def test_cells_of_donors_are_interleaved(data):
    changes = (data.obs["donor_id"].to_numpy()[1:] != data.obs["donor_id"].to_numpy()[:-1]).mean()
    assert changes > 0.9


def test_older_donors_have_fewer_cells_and_two_donors_a_handful(data):
    donors = data.obs.groupby("donor_id", observed=True)["age"].agg(["size", "first"])
    small = donors["size"] <= 30
    assert sorted(donors.loc[small, "size"]) == [12, 28]
    slope = np.polyfit(donors.loc[~small, "first"] / 10, np.log(donors.loc[~small, "size"]), 1)[0]
    assert slope == pytest.approx(np.log(1 - SETTINGS["cells_lost_per_decade"]), abs=0.03)


def test_one_cell_type_is_too_rare_and_six_can_be_tested(data):
    found = data.obs.groupby(["cell_type", "donor_id"], observed=False).size().unstack()
    samples = (found >= CONFIG["pseudobulk"]["min_cells"]).sum(axis=1)
    rare = samples.index[samples < CONFIG["pseudobulk"]["min_samples"]]
    assert list(rare) == ["plasmacytoid dendritic cell"]
    assert found.sum(axis=1).min() > CONFIG["filter"]["min_cells_per_type"]
    assert samples.drop(rare).min() >= 20


def test_labels_are_awkward(data):
    labels = list(data.obs["cell_type"].cat.categories)
    assert {"CD4-positive, alpha-beta T cell", "platelet/megakaryocyte"} <= set(labels)
    letters = [re.sub(r"[^a-z0-9]+", "", label.lower()) for label in labels]
    assert len(labels) - len(set(letters)) == 1


def test_symbols_of_nuisance_genes_and_decoys_meet_the_configured_patterns(demo):
    data, _, genes, _, _ = demo
    assert list(genes["symbol"]) == list(data.var["feature_name"])
    assert list(genes["gene_id"]) == list(data.var_names)
    symbols = genes.groupby("role")["symbol"].agg(set)
    patterns = dict(CONFIG["qc"]["patterns"]["human"])
    patterns["receptor"] = CONFIG["preprocess"]["exclude"]["human"]["receptor"]
    hits = {name: set(filter(re.compile(text).fullmatch, genes["symbol"])) for name, text in patterns.items()}
    assert hits["mt"] == symbols["mitochondrial"]
    assert hits["ribo"] == symbols["ribosomal"] | {"RPS4Y1"}
    assert hits["hb"] == symbols["haemoglobin"] >= {"HBA1", "HBA2", "HBB"}
    assert hits["receptor"] == symbols["receptor"]
    assert symbols["receptor"] >= {"TRAV1-2", "TRBV20-1", "IGKV3-20", "IGHM", "TRAC"}
    assert symbols["decoy"] >= {"HBEGF", "HBS1L", "RPS6KA1", "TRADD"}
    assert symbols["sex"] >= {"XIST", "RPS4Y1", "DDX3Y"}


def test_exactly_two_symbols_are_shared_by_two_genes(demo):
    counts = demo[2]["symbol"].value_counts()
    assert counts[counts > 1].to_dict() == {"TBCE": 2, "MATR3": 2}


def test_effects_name_every_planted_gene_with_its_sign(demo):
    _, _, genes, effects, _ = demo
    per_type = effects.assign(kind=np.where(effects["pathway"] == "", "age", effects["pathway"]))
    counts = per_type.groupby(["kind", "cell_type"]).size().unstack(fill_value=0)
    assert (counts.loc["age"] == SETTINGS["age_genes"]).all()
    for pathway, (sign, _) in _demo_genes.PATHWAYS.items():
        moved = effects[effects["pathway"] == pathway]
        assert (np.sign(moved["log2fc_per_decade"]) == sign).all()
        assert counts.loc[pathway].drop("platelet/megakaryocyte").eq(SETTINGS["pathway_genes"]).all()
        assert counts.loc[pathway, "platelet/megakaryocyte"] == 0
    size = effects["log2fc_per_decade"].abs()
    setting = np.where(
        effects["pathway"] == "", SETTINGS["log2fc_per_decade"], SETTINGS["pathway_log2fc_per_decade"]
    )
    assert (size / setting).between(0.5, 1.5).all()
    up = (
        effects[effects["pathway"] == ""]
        .groupby("cell_type")["log2fc_per_decade"]
        .agg(lambda x: (x > 0).sum())
    )
    assert (up == SETTINGS["age_genes"] / 2).all()
    shared = effects[effects["pathway"] == ""].groupby("gene_id").size()
    assert (shared == len(_demo_genes.TYPES)).sum() == SETTINGS["age_genes"] // 3
    assert effects.merge(genes, on=["gene_id", "symbol"])["role"].isin(["age", "pathway"]).all()


def test_planted_slopes_are_in_the_counts(demo):
    data, _, _, effects, cells = demo
    clean = ~(cells["doublet"] | cells["dying"] | cells["red_cell"]).to_numpy()
    for cell_type in ("CD4-positive, alpha-beta T cell", "CD16- monocyte"):
        mine = clean & (data.obs["cell_type"] == cell_type).to_numpy()
        ages, rows = [], []
        for donor, members in data.obs[mine].groupby("donor_id", observed=True):
            if len(members) >= 10:
                ages.append(members["age"].iloc[0] / 10)
                rows.append(log_share(data, mine & (data.obs["donor_id"] == donor).to_numpy()))
        counted = np.asarray(data.X[mine].sum(axis=0)).ravel() > 10 * len(ages)
        slopes = pd.Series(np.polyfit(ages, np.array(rows), 1)[0], index=data.var_names)[counted]
        planted = effects[effects["cell_type"] == cell_type].set_index("gene_id")["log2fc_per_decade"]
        planted = planted.reindex(slopes.index, fill_value=0)
        assert np.polyfit(planted, slopes, 1)[0] == pytest.approx(1, abs=0.15)
        assert np.corrcoef(planted, slopes)[0, 1] > 0.6


def test_donor_and_pool_effects_have_their_sizes():
    # one donor per pool, no other effects: log ratios of two donors vary by both
    settings = SETTINGS | {"sex_log2fc": 0, "log2fc_per_decade": 0, "pathway_log2fc_per_decade": 0}
    settings |= {"doublet_rate": 0, "dying_rate": 0, "red_cell_rate": 0, "small_donors": 0, "donors": 4}
    settings |= {"cells_per_donor": 600, "cells_lost_per_decade": 0, "counts_per_cell": 5000}

    def spread(**changed):
        data = simulate.simulate(**settings | changed)[0]
        mine = (data.obs["cell_type"] == "CD4-positive, alpha-beta T cell").to_numpy()
        enough = np.asarray(data.X[mine].sum(axis=0)).ravel() > 2000
        donors = data.obs["donor_id"].cat.categories
        shares = [log_share(data, mine & (data.obs["donor_id"] == donor).to_numpy()) for donor in donors]
        pools = data.obs.groupby("donor_id", observed=True)["pool_number"].first().to_numpy()
        one, two = (np.mean([s for s, p in zip(shares, pools, strict=True) if p == n], axis=0) for n in "12")
        return np.std((one - two)[enough])

    quiet = spread(donor_sd=0, pool_sd=0)
    assert spread(donor_sd=0, pool_sd=0.5) == pytest.approx(np.hypot(quiet, 0.5 * np.sqrt(2)), rel=0.1)
    # two donors in each pool: the means of two differ by sd x sqrt(1/2 + 1/2)
    assert spread(donor_sd=0.5, pool_sd=0) == pytest.approx(np.hypot(quiet, 0.5), rel=0.1)


def test_sex_genes_separate_every_donor(data):
    symbols = data.var["feature_name"]
    for _, members in data.obs.groupby("donor_id", observed=True):
        share = log_share(data, data.obs_names.isin(members.index))
        male = share[symbols.isin(["RPS4Y1", "DDX3Y"])].mean() > share[symbols == "XIST"].mean()
        assert male == (members["sex"].iloc[0] == "male")


def test_dying_and_red_cells_stand_out_and_states_exclude_each_other(demo):
    data, _, genes, _, cells = demo
    assert (cells["cell"] == data.obs_names).all()
    assert (cells["cell_type"] == data.obs["cell_type"].astype(str).to_numpy()).all()
    states = cells[["doublet", "dying", "red_cell"]]
    assert states.sum(axis=1).max() == 1
    for name in states:
        rate = SETTINGS["red_cell_rate" if name == "red_cell" else f"{name}_rate"]
        assert states[name].mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / len(cells)))
    mt = share_of(data, (genes["role"] == "mitochondrial").to_numpy())
    hb = share_of(data, (genes["role"] == "haemoglobin").to_numpy())
    assert mt[cells["dying"]].min() > 0.2 > 0.15 > mt[~cells["dying"]].max()
    assert hb[cells["red_cell"]].min() > 0.2 > 0.05 > hb[~cells["red_cell"]].max()
    assert mt[~cells["dying"] & ~cells["red_cell"]].mean() == pytest.approx(0.06, rel=0.25)


def test_doublets_hold_twice_the_counts_and_markers_of_a_second_type(demo):
    data, _, genes, _, cells = demo
    counts = np.asarray(data.X.sum(axis=1)).ravel()
    healthy = ~cells[["doublet", "dying", "red_cell"]].any(axis=1).to_numpy()
    doublet = cells["doublet"].to_numpy()
    assert counts[doublet].mean() == pytest.approx(2 * counts[healthy].mean(), rel=0.1)
    marker = (genes["role"] == "marker").to_numpy()
    programs = np.array(
        [share_of(data, marker & (genes["program"] == label).to_numpy()) for label in _demo_genes.TYPES]
    )
    own = np.array([list(_demo_genes.TYPES).index(label) for label in cells["cell_type"]])
    np.put_along_axis(programs, own[None], 0, axis=0)
    foreign = programs.max(axis=0)
    typical = np.quantile(foreign[healthy], 0.95)
    # a type's markers are about a tenth of its counts, so a different partner shows in nearly every doublet
    assert (foreign[doublet] > typical).mean() > 0.9


def test_markers_tell_types_apart(demo):
    data, _, genes, _, cells = demo
    healthy = ~cells[["doublet", "dying", "red_cell"]].any(axis=1).to_numpy()
    for label in _demo_genes.TYPES:
        mine = healthy & (cells["cell_type"] == label).to_numpy()
        score = share_of(data, ((genes["role"] == "marker") & (genes["program"] == label)).to_numpy())
        others = healthy & ~mine
        assert (score[mine] > np.quantile(score[others], 0.99)).mean() > 0.9


def test_receptors_come_in_bursts_in_their_type_only(demo):
    data, _, genes, _, cells = demo
    healthy = ~cells[["doublet", "dying", "red_cell"]].any(axis=1).to_numpy()
    for label in _demo_genes.RECEPTORS:
        mask = ((genes["role"] == "receptor") & (genes["program"] == label)).to_numpy()
        mine = healthy & (cells["cell_type"] == label).to_numpy()
        found = data.X[mine][:, mask].toarray()
        assert found.mean() > 20 * data.X[healthy & ~mine][:, mask].toarray().mean()
        assert (found.var(axis=0) > 3 * found.mean(axis=0)).mean() > 0.5


def test_gene_sets_hold_pathways_halves_and_null_sets(demo):
    _, sets, genes, effects, _ = demo
    for pathway in _demo_genes.PATHWAYS:
        planted = set(effects.loc[effects["pathway"] == pathway, "symbol"])
        assert set(sets[pathway]) == planted
        half = set(sets[f"{pathway}_HALF"])
        assert len(half & planted) == 13
        assert len(half) == 26
    null = {name: members for name, members in sets.items() if "NULL" in name}
    assert len(null) == 20
    assert all(15 <= len(members) <= 60 for members in null.values())
    assert all(len(members) == len(set(members)) for members in sets.values())
    assert set().union(*null.values()).isdisjoint(effects["symbol"])
    assert set().union(*sets.values()) <= set(genes["symbol"])


def test_without_effects_the_table_of_effects_is_empty_with_its_columns():
    settings = SETTINGS | {"log2fc_per_decade": 0, "pathway_log2fc_per_decade": 0, "donors": 4}
    effects = simulate.simulate(**settings)[3]
    assert effects.empty
    assert list(effects) == ["gene_id", "symbol", "cell_type", "log2fc_per_decade", "pathway"]


def test_same_seed_same_cohort_another_seed_another():
    settings = SETTINGS | {"donors": 4}
    first, again, other = (simulate.simulate(**settings | {"random_state": seed}) for seed in (1, 1, 2))
    assert (first[0].X != again[0].X).nnz == 0
    pd.testing.assert_frame_equal(first[0].obs, again[0].obs)
    pd.testing.assert_frame_equal(first[3], again[3])
    assert first[1] == again[1] != other[1]
    assert first[0].X.sum() != other[0].X.sum()


def test_with_share_by_hand():
    # 1 of 4 becomes 3 of 4: the others share what is left in their old proportion
    rates = simulate.set_share(np.array([[1.0, 1.0, 2.0]]), np.array([True, False, False]), np.array([0.75]))
    np.testing.assert_allclose(rates, [[3.0, 1 / 3, 2 / 3]])


def test_cell_counts_have_negative_binomial_mean_and_variance():
    rng = np.random.default_rng(1)
    cells = 20000
    rates = np.full((cells, 2), 0.5)
    counts = simulate.draw_cells(
        rng, rates, np.array(["", ""]), np.full(cells, "healthy"), counts_per_cell=40, counts_sd=0
    )
    # mean 20, variance 20 + 0.3 x 20^2 = 140
    np.testing.assert_allclose(counts.mean(axis=0), 20, rtol=0.02)
    np.testing.assert_allclose(counts.var(axis=0), 140, rtol=0.06)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"genes": 500}, "500 genes, .* needed .*simulate.genes"),
        ({"age_range": [60, 30]}, "ages 60 to 30 .*simulate.age_range"),
        ({"small_donors": 36}, "36 of 36 donors .*simulate.small_donors"),
        ({"doublet_rate": 0.99}, "1.03 of all cells; lower simulate.doublet_rate"),
    ],
)
def test_impossible_settings_name_the_key(changed, words):
    with pytest.raises(InputError, match=words):
        simulate.simulate(**SETTINGS | changed)


def test_rates_may_add_up_to_one():
    rates = {"doublet_rate": 0.1, "dying_rate": 0.2, "red_cell_rate": 0.7}
    cells = simulate.simulate(**SETTINGS | rates | {"donors": 4})[4]
    assert cells[["doublet", "dying", "red_cell"]].any(axis=1).all()
