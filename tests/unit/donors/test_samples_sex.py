"""The sex that expression shows, on counts with planted sexes, swaps, few counts and mixtures."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from donors._sex import ALPHA, compare_sex, find_middle, show_sex, state_sex
from donors.samples import check_sex, find_sex_genes
from files import match_symbols

MARGIN = 1.0
XIST, OF_Y = 150e-6, 400e-6  # share of the counts of a female, of a male
LEAK = 0.01  # of the other sex, from ambient counts and doublets


def draw(rng, sexes, totals, *, leak=LEAK):
    """Counts of the female and of the male genes of samples of these sexes."""
    is_female = np.asarray(sexes) == "female"
    female = rng.poisson(totals * XIST * np.where(is_female, 1, leak))
    return female, rng.poisson(totals * OF_Y * np.where(is_female, leak, 1))


def test_the_ratio_by_hand():
    table = show_sex(np.array([100, 0, 3]), np.array([0, 200, 3]), margin=MARGIN)
    assert table["log2_ratio"].tolist() == pytest.approx([np.log2(201), -np.log2(401), 0])
    assert table["sex"].tolist() == ["female", "male", ""]


def test_the_middle_is_between_two_groups():
    # counts of a sum of 400: c = 8.5; r = log2(168.5 / 248.5) of females, log2(8.5 / 408.5) of males
    female, male = np.array([160, 160, 160, 0, 0]), np.array([240, 240, 240, 400, 400])
    middle = (np.log2(168.5 / 248.5) + np.log2(8.5 / 408.5)) / 2
    assert find_middle(female, male) == pytest.approx(middle)
    assert show_sex(female, male, margin=MARGIN)["sex"].tolist() == [*["female"] * 3, *["male"] * 2]
    assert find_middle(female[:4], male[:4]) == 0, "one sample is not a group"
    assert find_middle(male, female) == 0, "no group has more counts of Y"
    few = np.array([1, 1, 1, 20, 20])
    assert find_middle(few, np.zeros(5, int)) == 0, "two samples have enough counts for a group"


def test_a_sex_is_decided_where_the_binomial_test_says_so():
    # beyond a margin of 1 a female has odds of 2: n of n counts are beyond at (2 / 3)^n < 0.01
    need = int(np.ceil(np.log(ALPHA) / np.log(2 / 3)))
    assert need == 12
    assert show_sex(np.array([12, 11]), np.array([0, 0]), margin=MARGIN)["sex"].tolist() == ["female", ""]
    assert show_sex(np.array([0, 0]), np.array([12, 11]), margin=MARGIN)["sex"].tolist() == ["male", ""]
    assert show_sex(np.array([6]), np.array([0]), margin=0)["sex"].tolist() == [""]  # 2^-6
    assert show_sex(np.array([7]), np.array([0]), margin=0)["sex"].tolist() == ["female"]  # 2^-7


@pytest.mark.parametrize("females", [0, 2, 15, 28, 30])
def test_planted_swaps_are_found_and_nothing_else(females):
    found, wrong = 0, 0
    for seed in range(20):
        rng = np.random.default_rng([females, seed])
        true = np.array(["female"] * females + ["male"] * (30 - females))
        totals = rng.lognormal(np.log(2e6), 0.5, 30)
        leak = LEAK if 0 < females < 30 else 0.001  # of misread genes: nothing comes from another sex
        female, male = draw(rng, true, totals, leak=leak)
        shown = show_sex(female, male, margin=MARGIN)["sex"]
        stated = pd.Series(true.copy())
        stated[[0, 29]] = [{"female": "male", "male": "female"}[sex] for sex in true[[0, 29]]]
        checks = compare_sex(shown, stated, stated)
        found += (checks[[0, 29]] == "contradicts").sum()
        wrong += (checks.drop([0, 29]) == "contradicts").sum()
    assert found == 40
    assert wrong == 0


@pytest.mark.parametrize("depth", [1e3, 1e4, 1e5])
def test_samples_with_few_counts_are_undecided_and_not_wrong(depth):
    wrong = decided = 0
    for seed in range(50):
        rng = np.random.default_rng([3, seed])
        true = np.array(["female", "male"] * 15)
        totals = np.where(np.arange(30) < 10, depth, 2e6)
        female, male = draw(rng, true, totals)
        shown = show_sex(female, male, margin=MARGIN)["sex"].to_numpy()[:10]
        wrong += ((shown != "") & (shown != true[:10])).sum()
        decided += (shown != "").sum()
    assert wrong == 0
    assert decided / 500 == pytest.approx({1e3: 0, 1e4: 0, 1e5: 0.7}[depth], abs=0.31)


def test_a_mixture_of_a_woman_and_a_man_is_undecided():
    rng = np.random.default_rng(4)
    totals = np.full(21, 2e6)
    female, male = draw(rng, ["female"] * 10 + ["male"] * 11, totals)
    female[20], male[20] = rng.poisson(1e6 * XIST), rng.poisson(1e6 * OF_Y)
    assert show_sex(female, male, margin=MARGIN)["sex"].tolist() == [
        *["female"] * 10, *["male"] * 10, "",
    ]  # fmt: skip


@pytest.mark.parametrize("counts", [(0, 0), (5, 0)])
def test_a_cohort_without_such_counts_is_undecided(counts):
    female, male = (np.full(6, each) for each in counts)
    assert (show_sex(female, male, margin=MARGIN)["sex"] == "").all()


def test_levels_are_read_in_any_case_and_others_are_named():
    levels = {"female": ["female", "F"], "male": ["male", "m"]}
    level = pd.Series(["Female", " f ", "M", "other", None, ""])
    stated = state_sex(level, levels)
    assert stated.tolist() == ["female", "female", "male", "", "", ""]
    shown = pd.Series(["female", "male", "", "male", "male", "male"])
    assert compare_sex(shown, stated, level).tolist() == [
        "agrees", "contradicts", "undecided", "unknown_level", "not_stated", "not_stated",
    ]  # fmt: skip


class Sums:
    """Totals of two samples; only the sex genes count."""

    def __init__(self, counts):
        self.samples, self.counts = ["s0", "s1"], counts

    def genes(self):
        return (self.counts > 0).sum(axis=1)

    def column_sums(self, columns):
        return self.counts[:, columns].sum(axis=1)


def test_genes_of_man_and_mouse_are_those_of_the_config(settings):
    human = pd.Series(["XIST", "TSIX", "RPS4Y1", "RPS4X", "DDX3Y", "DDX3X", "KDM5D", "UTY", "ZFY", "EIF1AY"])
    genes = find_sex_genes(human, settings["sex_genes"], "human")
    assert human[genes["female"]].tolist() == ["XIST"]
    assert human[genes["male"]].tolist() == ["RPS4Y1", "DDX3Y", "KDM5D", "UTY", "ZFY", "EIF1AY"]
    mouse = pd.Series(["Xist", "Ddx3y", "Ddx3x", "Uty", "Kdm5d", "Eif2s3y", "Eif2s3x", "Actb"])
    genes = find_sex_genes(mouse, settings["sex_genes"], "mouse")
    assert mouse[genes["female"]].tolist() == ["Xist"]
    assert mouse[genes["male"]].tolist() == ["Ddx3y", "Uty", "Kdm5d", "Eif2s3y"]
    assert not find_sex_genes(mouse, settings["sex_genes"], "zebrafish")["male"].any()
    assert match_symbols(pd.Series(["Xist"]), settings["sex_genes"]["mouse"]["female"], "x").all()


def test_a_cohort_without_the_genes_is_not_checked(settings):
    symbols = pd.Series(["XIST", "ACTB"])
    genes = find_sex_genes(symbols, settings["sex_genes"], "human")
    table = check_sex(
        Sums(np.array([[9, 1], [0, 9]])),
        genes,
        pd.Series(["female", "male"]),
        settings["sex_levels"],
        margin=1,
    )
    assert table["sex_check"].tolist() == ["no_genes", "no_genes"]
    assert table["log2_ratio"].isna().all()


def test_without_a_covariate_of_sex_nothing_is_compared(settings):
    symbols = pd.Series(["XIST", "UTY"])
    genes = find_sex_genes(symbols, settings["sex_genes"], "human")
    sums = Sums(np.array([[900, 1], [0, 900]]))
    table = check_sex(sums, genes, None, settings["sex_levels"], margin=1)
    assert table["sex_check"].tolist() == ["not_stated", "not_stated"]
    assert table["sex_shown"].tolist() == ["female", "male"]


def test_the_share_of_wrong_calls_at_the_margin_is_that_of_the_test():
    rng = np.random.default_rng(5)
    odds = 2**MARGIN
    own = rng.binomial(60, odds / (1 + odds), 200_000)
    wrong = (stats.binom.sf(own - 1, 60, odds / (1 + odds)) < ALPHA).mean()
    assert wrong < ALPHA
