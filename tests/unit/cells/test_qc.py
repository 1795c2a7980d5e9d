"""Metrics of a cell, the limits of its sample, and why it fails."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.io
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from cells import qc
from job import InputError, collect_warnings

PATTERNS = yaml.safe_load((Path(__file__).parents[3] / "config" / "config.yaml").read_text())["qc"][
    "patterns"
]
OFF = dict.fromkeys(qc.FIXED)
CELLS = sparse.csr_matrix(
    np.array(  # MT-CO1, RPS3, HBB, ACTB
        [
            [1, 2, 0, 7],
            [5, 0, 0, 5],
            [0, 0, 9, 1],
            [0, 0, 0, 0],
        ],
        dtype=np.int32,
    )
)
GROUPS = qc.match_groups(pd.Series(["MT-CO1", "RPS3", "HBB", "ACTB"]), PATTERNS, "human")


def metrics_of(total, genes=None, mt=None, hb=None, top=None):
    """A table of metrics with the columns that are not given at harmless values."""
    n = len(total)
    return pd.DataFrame(
        {
            "n_genes_by_counts": genes if genes is not None else [100] * n,
            "total_counts": total,
            "pct_counts_in_top_20_genes": top if top is not None else [50.0] * n,
            "pct_counts_mt": mt if mt is not None else [0.0] * n,
            "pct_counts_hb": hb if hb is not None else [0.0] * n,
        }
    )


def reasons(metrics, sample=None, nmads=None, min_cells_for_mads=1, **fixed):
    sample = pd.Series(["s"] * len(metrics)) if sample is None else sample
    limits = qc.set_limits(metrics, sample, nmads=nmads, min_cells_for_mads=min_cells_for_mads, **OFF | fixed)
    return qc.judge(metrics, sample, limits).tolist(), limits


# groups of genes


@pytest.mark.parametrize(
    ("group", "symbols"),
    [
        ("mt", "MT-CO1 MT-ND4L mt-Nd1 MT-RNR2"),
        ("ribo", "RPS3 RPS4X RPS4Y1 RPS27A RPS27L RPL10A RPL3L RPL7L1 RPL36AL RPL41 RPLP0 RPLP2 RPSA Rpl13a"),
        ("hb", "HBA1 HBA2 HBB HBD HBE1 HBG2 HBM HBQ1 HBZ"),
        ("", "HBEGF HBS1L HBP1 HBCBP RPS6KA1 RPS6KB2 RPS6KL1 RPS19BP1 RPSAP58 RPL34-AS1 MRPL1 MRPS2 TRADD"),
        ("", "RPS10-NUDT3 RPL36A-HNRNPH2 MTOR MT1X MTRNR2L1 XMT-CO1 HBB-AS1"),
    ],
)
def test_groups_take_their_genes_and_leave_the_decoys(group, symbols):
    found = qc.match_groups(pd.Series(symbols.split()), PATTERNS, "human")
    for name in PATTERNS["human"]:
        assert found[name].eq(name == group).all(), found[found[name] != (name == group)]


@pytest.mark.parametrize(
    ("group", "symbols"),
    [
        ("mt", "mt-Nd1 mt-Co1 mt-Cytb mt-Rnr2 mt.Nd1 Mt-nd1"),
        ("ribo", "Rps3 Rps4x Rps4l Rps27a Rpl13a Rpl22l1 Rpl36al Rplp0 Rpsa"),
        ("hb", "Hba-a1 Hba-a2 Hba-x Hbb-bs Hbb-bt Hbb-b1 Hbb-bh1 Hbb-y Hbb.bs Hbq1a Hbq1b"),
        ("", "Hbegf Hbs1l Hbp1 Rps6ka1 Rps19bp1 Rpl31-ps12 Mrpl1 Mt1 Mt2 Mtor Actb"),
    ],
)
def test_groups_take_the_genes_of_mouse_and_leave_the_decoys(group, symbols):
    found = qc.match_groups(pd.Series(symbols.split()), PATTERNS, "mouse")
    for name in PATTERNS["mouse"]:
        assert found[name].eq(name == group).all(), found[found[name] != (name == group)]


def test_dots_of_make_names_are_read_as_hyphens():
    found = qc.match_groups(pd.Series(["MT.ND1", "MT.CO1", "RPL34.AS1", "HBB.AS1"]), PATTERNS, "human")
    assert found["mt"].tolist() == [True, True, False, False]
    assert not found[["ribo", "hb"]].any(axis=None)


def test_real_symbols_of_pbmc3k(shared_data):
    genes = pd.read_csv(shared_data / "pbmc3k_10x" / "genes.tsv", sep="\t", header=None, dtype=str)
    found = qc.match_groups(genes[1], PATTERNS, "human")
    assert found["mt"].sum() == 13
    assert sorted(genes[1][found["hb"]]) == [
        "HBA1",
        "HBA2",
        "HBB",
        "HBD",
        "HBE1",
        "HBG1",
        "HBG2",
        "HBM",
        "HBQ1",
        "HBZ",
    ]
    alike = genes[1][genes[1].str.match("RP[SL]") & ~found["ribo"]]
    assert alike.str.contains("RPS6K|-|RPS19BP1|RPSAP58|RPS10P7").all()


def test_a_pattern_that_is_no_regular_expression():
    with pytest.raises(InputError, match=r"qc\.patterns\.yeast\.mt: 'MT-\(' is not a regular expression"):
        qc.match_groups(pd.Series(["A"]), {"yeast": {"mt": "MT-("}}, "yeast")


# metrics


def test_metrics_by_hand():
    metrics = qc.measure(CELLS, GROUPS)
    assert metrics["n_genes_by_counts"].tolist() == [3, 2, 2, 0]
    assert metrics["total_counts"].tolist() == [10, 10, 10, 0]
    assert metrics["pct_counts_mt"].tolist() == [10, 50, 0, 0]
    assert metrics["pct_counts_ribo"].tolist() == [20, 0, 0, 0]
    assert metrics["pct_counts_hb"].tolist() == [0, 0, 90, 0]
    assert metrics["pct_counts_in_top_20_genes"].tolist() == [100, 100, 100, 0]
    assert metrics.dtypes.iloc[:2].tolist() == [np.int64, np.int64]


def test_a_share_that_is_a_whole_number_is_exactly_it():
    # 7 of 25 counts: 100 / 25 * 7 is exact, 7 / 25 * 100 is 28.000000000000004 and would fail a limit of 28
    wholes = [(mt, total) for total in range(1, 200) for mt in range(total + 1) if 100 * mt % total == 0]
    counts = sparse.csr_matrix(np.array([[mt, 0, 0, total - mt] for mt, total in wholes], dtype=np.int32))
    expected = [100 * mt // total for mt, total in wholes]
    assert qc.measure(counts, GROUPS)["pct_counts_mt"].tolist() == expected


def test_top_20_share_by_hand():
    row = np.r_[[10] * 3, [2] * 17, [1] * 10]  # 30 + 34 of 74 counts
    assert qc.measure(sparse.csr_matrix(row[None]), pd.DataFrame(index=range(30)))[
        "pct_counts_in_top_20_genes"
    ].tolist() == pytest.approx([100 * 64 / 74])


def test_stored_zeros_are_no_genes_and_stay_in_the_input():
    counts = sparse.csr_matrix((np.array([0, 3], dtype=np.int32), [0, 1], [0, 2]), shape=(1, 4))
    assert qc.measure(counts, GROUPS)["n_genes_by_counts"].tolist() == [1]
    assert counts.nnz == 2


def test_counts_beyond_32_bits_are_summed_exactly():
    counts = sparse.csr_matrix(np.full((1, 4), 2**31 - 1, dtype=np.int32))
    assert qc.measure(counts, GROUPS)["total_counts"].tolist() == [4 * (2**31 - 1)]


def test_metrics_equal_scanpys():
    import scanpy as sc

    random = np.random.default_rng(1)
    counts = random.negative_binomial(0.05, 0.02, (qc.BLOCK + 50, 300)).astype(np.int32)  # more than a block
    counts[0] = 0
    counts[1, 20:] = 0
    groups = pd.DataFrame({name: random.random(300) < 0.1 for name in ("mt", "ribo", "hb")})
    groups.index = groups.index.astype(str)
    cells = ad.AnnData(sparse.csr_matrix(counts), var=groups)
    with np.errstate(invalid="ignore"):  # scanpy divides by the zero counts of the first cell
        expected, _ = sc.pp.calculate_qc_metrics(cells, qc_vars=list(groups), percent_top=[20], log1p=False)
    metrics = qc.measure(cells.X, groups)
    pd.testing.assert_frame_equal(
        metrics, expected[metrics.columns].fillna(0).reset_index(drop=True), check_dtype=False, rtol=1e-6
    )


def test_metrics_of_a_real_sample(shared_data):
    counts = (
        scipy.io.mmread(shared_data / "pbmc3k_10x" / "matrix.mtx", spmatrix=True).T.tocsr().astype(np.int32)
    )
    genes = pd.read_csv(shared_data / "pbmc3k_10x" / "genes.tsv", sep="\t", header=None, dtype=str)
    metrics = qc.measure(counts, qc.match_groups(genes[1], PATTERNS, "human"))
    assert metrics["total_counts"].sum() == 6_390_631
    assert metrics["n_genes_by_counts"].sum() == counts.nnz
    assert 1 < metrics["pct_counts_mt"].median() < 4
    assert metrics["pct_counts_ribo"].median() > 20


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), min_size=30, max_size=30), min_size=1, max_size=6))
def test_shares_stay_within_0_and_100(rows):
    counts = sparse.csr_matrix(np.array(rows, dtype=np.int32))
    groups = pd.DataFrame({"mt": np.arange(30) < 5})
    metrics = qc.measure(counts, groups)
    shares = metrics.filter(like="pct_")
    assert shares.ge(0).all(axis=None)
    assert shares.le(100 + 1e-9).all(axis=None)
    top = np.sort(np.array(rows), axis=1)[:, -20:].sum(axis=1)
    assert np.allclose(metrics["pct_counts_in_top_20_genes"] * metrics["total_counts"] / 100, top)


# limits


def test_fixed_limits_are_inclusive_and_null_disables():
    metrics = metrics_of(total=[99, 100, 101])
    assert reasons(metrics, min_counts=100)[0] == ["min_counts", "", ""]
    assert reasons(metrics, max_counts=100)[0] == ["", "", "max_counts"]
    assert reasons(metrics)[0] == ["", "", ""]


@pytest.mark.parametrize(
    ("limit", "column", "values"),
    [
        ("min_genes", "genes", [49, 50]),
        ("max_genes", "genes", [51, 50]),
        ("max_pct_mt", "mt", [50.1, 50.0]),
        ("max_pct_hb", "hb", [50.1, 50.0]),
        ("max_pct_top_20", "top", [50.1, 50.0]),
    ],
)
def test_each_fixed_limit_reads_its_metric(limit, column, values):
    metrics = metrics_of(total=[10, 10], **{column: values})
    assert reasons(metrics, **{limit: 50})[0] == [limit, ""]


def test_the_first_limit_failed_is_the_reason():
    metrics = metrics_of(total=[5, 500, 500], genes=[5, 5, 80], mt=[90.0, 90.0, 90.0])
    assert reasons(metrics, min_counts=100, min_genes=50, max_pct_mt=20)[0] == [
        "min_counts",
        "min_genes",
        "max_pct_mt",
    ]


def test_a_cell_without_counts_fails_min_counts():
    metrics = qc.measure(CELLS, GROUPS)
    found, _ = reasons(metrics, min_counts=1, min_genes=1, max_pct_mt=20)
    assert found == ["", "max_pct_mt", "", "min_counts"]


def test_robust_limits_by_hand():
    # log1p of 2^k - 1 is k log 2: median 3, MAD 1 (in log 2), so 2 x 1.4826 either way
    total = [2**k - 1 for k in (0, 1, 2, 3, 3, 4, 5, 6)]
    _, limits = reasons(metrics_of(total), nmads=2)
    k = np.array([0, 1, 2, 3, 3, 4, 5, 6])
    spread = 2 * 1.4826 * np.median(abs(k - 3))
    assert limits.loc["s", "mad_low_counts"] == pytest.approx(2 ** (3 - spread) - 1)
    assert limits.loc["s", "mad_high_counts"] == pytest.approx(2 ** (3 + spread) - 1)


def test_robust_limits_equal_scipys_per_sample():
    random = np.random.default_rng(2)
    sample = pd.Series(random.choice(["a", "b", "NA"], 600))
    metrics = metrics_of(
        random.negative_binomial(3, 0.002, 600), random.integers(50, 900, 600), random.gamma(2, 2, 600)
    )
    _, limits = reasons(metrics, sample, nmads=3)
    for name, cells in metrics.groupby(sample):
        for column, metric in (("counts", "total_counts"), ("genes", "n_genes_by_counts")):
            log = np.log1p(cells[metric])
            spread = 3 * stats.median_abs_deviation(log, scale="normal")
            assert np.log1p(limits.loc[name, f"mad_low_{column}"]) == pytest.approx(
                log.median() - spread, rel=1e-4
            )
            assert np.log1p(limits.loc[name, f"mad_high_{column}"]) == pytest.approx(
                log.median() + spread, rel=1e-4
            )
        mt = cells["pct_counts_mt"]
        spread = 3 * stats.median_abs_deviation(mt, scale="normal")
        assert limits.loc[name, "mad_high_mt"] == pytest.approx(mt.median() + spread, rel=1e-4)


def test_planted_outliers_are_found_with_their_side():
    random = np.random.default_rng(3)
    metrics = metrics_of(
        random.lognormal(7, 0.3, 200).round(),
        random.lognormal(6, 0.2, 200).round(),
        random.gamma(9, 0.5, 200),
    )
    metrics.loc[0, "total_counts"] = 10
    metrics.loc[1, "n_genes_by_counts"] = 9
    metrics.loc[2, "total_counts"] = 60_000
    metrics.loc[3, "n_genes_by_counts"] = 9_000
    metrics.loc[4, "pct_counts_mt"] = 40.0
    metrics.loc[5, "pct_counts_mt"] = 0.0  # low is no fault
    metrics.loc[6, "total_counts"] = 2 * 1_097  # a doublet is no outlier
    found, _ = reasons(metrics, nmads=5)
    assert found[:7] == [
        "mad_low_counts",
        "mad_low_genes",
        "mad_high_counts",
        "mad_high_genes",
        "mad_high_mt",
        "",
        "",
    ]
    assert set(found[7:]) == {""}


def test_each_sample_has_its_own_robust_limits():
    sample = pd.Series(["a"] * 5 + ["b"] * 5)
    metrics = metrics_of([10, 11, 12, 13, 14, 1000, 1001, 1002, 1003, 12])
    found, _ = reasons(metrics, sample, nmads=5)
    assert found == [""] * 9 + ["mad_low_counts"]


def test_small_samples_get_fixed_limits_only():
    sample = pd.Series(["a"] * 5 + ["b"] * 6)
    metrics = metrics_of([10, 11, 12, 13, 500, 10, 11, 12, 13, 14, 500])
    found, limits = reasons(metrics, sample, nmads=3, min_cells_for_mads=6)
    assert found == [""] * 10 + ["mad_high_counts"]
    assert limits["mads"].to_dict() == {"a": False, "b": True}
    assert limits.loc["a", list(qc.ROBUST)].isna().all()


def test_no_robust_limit_where_the_mad_is_0():
    metrics = metrics_of([10, 11, 12, 13, 14], mt=[0.0, 0.0, 0.0, 0.0, 3.0])
    found, limits = reasons(metrics, nmads=1)
    assert np.isnan(limits.loc["s", "mad_high_mt"])
    assert found[2] == ""


def test_the_table_of_limits_says_exactly_what_was_applied():
    random = np.random.default_rng(4)
    sample = pd.Series(random.choice(["a", "b"], 300))
    metrics = metrics_of(random.negative_binomial(2, 0.01, 300), mt=random.gamma(1, 9, 300))
    found, limits = reasons(metrics, sample, nmads=2, min_counts=30, max_pct_mt=25)
    for i in range(300):
        mine, cell = limits.loc[sample[i]], metrics.loc[i]
        failed = [
            reason
            for reason, (metric, upper) in (qc.FIXED | qc.ROBUST).items()
            if (cell[metric] > mine[reason] if upper else cell[metric] < mine[reason])
        ]
        assert found[i] == (failed[0] if failed else "")
    assert limits["cells"].to_dict() == sample.value_counts().to_dict()
    assert {*found} >= {"", "min_counts", "max_pct_mt"}


def test_robust_limits_are_those_of_the_cells_that_pass_the_fixed_ones():
    random = np.random.default_rng(5)
    cells = random.lognormal(7.8, 0.35, 80).round()
    background = random.poisson(40, 1500)
    metrics = metrics_of(np.r_[cells, background])
    found, limits = reasons(metrics, nmads=5, min_counts=100)
    _, alone = reasons(metrics[:80], nmads=5, min_counts=100)
    robust = list(qc.ROBUST)
    pd.testing.assert_frame_equal(limits[robust], alone[robust])
    assert set(found[:80]) == {""}
    assert set(found[80:]) == {"min_counts"}
    assert limits["cells"].tolist() == [1580]


def test_a_sample_with_few_cells_that_pass_gets_fixed_limits_only():
    metrics = metrics_of([5] * 50 + [100, 120, 140, 160, 9000])
    found, limits = reasons(metrics, nmads=3, min_counts=50, min_cells_for_mads=6)
    assert found[50:] == [""] * 5
    assert limits["mads"].tolist() == [False]
    assert reasons(metrics, nmads=3, min_counts=50, min_cells_for_mads=5)[0][-1] == "mad_high_counts"


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    st.lists(st.integers(0, 99), max_size=60),
    st.sampled_from([None, 3, 5]),
)
def test_cells_that_fail_a_fixed_limit_change_no_limit_and_no_other_cell(totals, background, nmads):
    alone, limits = reasons(metrics_of(totals), nmads=nmads, min_counts=100)
    found, both = reasons(metrics_of(totals + background), nmads=nmads, min_counts=100)
    assert found == alone + ["min_counts"] * len(background)
    pd.testing.assert_frame_equal(both.drop(columns="cells"), limits.drop(columns="cells"))


# unfiltered matrices


def barcodes(cells, background, depth=2500, sd=0.35, ambient=40, seed=0):
    """Metrics of a capture: log-normal cells, Poisson background; half as many genes as counts."""
    random = np.random.default_rng(seed)
    total = np.r_[depth * random.lognormal(0, sd, cells), random.poisson(ambient, background)].round()
    return metrics_of(total, genes=total // 2)


def check(metrics, sample=None, min_counts=100, min_genes=None):
    sample = pd.Series(["s"] * len(metrics)) if sample is None else sample
    least = {"min_counts": min_counts, "min_genes": min_genes}
    with collect_warnings() as warned:
        qc.check_filtered(qc.find_unfiltered(metrics, sample, **least), **least)
    return warned


def test_half_of_the_counts_by_hand():
    assert qc.weighted_median(pd.Series([1, 9, 4, 2])) == 9  # of 16 counts, 8 are reached by 9
    assert qc.weighted_median(pd.Series([5, 5, 4, 4])) == 5  # of 18, 9 by 5 and 5
    assert qc.weighted_median(pd.Series([4, 4, 4])) == 4
    assert qc.weighted_median(pd.Series([0, 0])) == 0


@pytest.mark.parametrize("share", [0.55, 0.7, 0.95])
def test_an_unfiltered_sample_is_refused_with_the_way_out(share):
    background = round(300 * share / (1 - share))
    metrics = barcodes(300, background)
    line = (
        rf"sample 's' looks unfiltered: {background:,} of {300 + background:,} barcodes have fewer than 100 "
    )
    with pytest.raises(InputError, match=line + r"counts; use .*, or load.empty_droplets: inf"):
        check(metrics)
    with pytest.raises(InputError, match="have fewer than 50 genes; use"):
        check(metrics, min_counts=None, min_genes=50)


@pytest.mark.parametrize(
    "metrics",
    [
        barcodes(1000, 0),
        barcodes(1000, 0, sd=1.1),  # a tissue with small and large cells
        barcodes(1000, 0, depth=60, sd=0.8),  # shallow: most fail, and no kind of cell stands out
        barcodes(1000, 400),  # the fixed limit takes the background, the others are sound
        metrics_of([0] * 10),
    ],
)
def test_other_samples_are_not_refused(metrics):
    assert check(metrics) == []


def test_background_above_the_limits_is_warned_of():
    (row,) = check(barcodes(200, 1500, ambient=250, depth=5000))
    assert (row["code"], row["number"], row["setting"]) == ("sample_looks_unfiltered", 1700, "qc.min_counts")
    assert row["message"].startswith("sample s may hold droplets without a cell: half of its counts are in ")


def test_each_sample_is_looked_at_alone():
    metrics = pd.concat([barcodes(300, 0), barcodes(300, 900)], ignore_index=True)
    sample = pd.Series(["fine"] * 300 + ["raw"] * 1200)
    found = qc.find_unfiltered(metrics, sample, min_counts=100, min_genes=None)
    assert found.index.tolist() == ["raw"]
    assert found.loc["raw", ["barcodes", "low"]].tolist() == [1200, 900]


def test_summary_counts_each_reason():
    assert qc.summarise(pd.Series(["", "min_genes", "max_pct_mt", "min_genes"])) == (
        "4 cells, 3 dropped (max_pct_mt 1; min_genes 2)"
    )
    assert qc.summarise(pd.Series([""])) == "1 cells, 0 dropped"
