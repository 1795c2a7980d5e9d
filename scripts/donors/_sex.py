"""The sex that expression shows: counts of XIST against counts of genes of the Y chromosome.

With x and y the counts of the female and of the male genes in a sample, r = log2((x + c) / (y + c)), c = 0.5
+ 0.02 (x + y), so that a count or two of the rarer ones do not matter. Where the samples fall into two
groups, a gap of GAP or more in the sorted r with two samples or more on either side and the lower one below
0, the middle is that between the medians of the groups; else it is 0, as many counts of either.

A sample is of a sex when x / (x + y) lies on its side of the middle, and beyond the margin, by a binomial
test at ALPHA; any other is undecided: too few counts, or counts of both, as in a mixture of two people.
Source: XIST is expressed from the inactive X only (Brown et al. 1991, Nature 349:38).
"""

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.01
GAP, LEAST = 3.0, 20  # log2; counts of both that a sample needs to be in a group


def find_middle(female: np.ndarray, male: np.ndarray) -> float:
    """The log2 ratio that is as far from females as from males. female, male: (samples,) counts."""
    prior = 0.5 + 0.02 * (female + male)
    ratio = np.sort(np.log2((female + prior) / (male + prior))[female + male >= LEAST])
    if len(ratio) < 4:
        return 0.0
    gaps = np.diff(ratio)[1:-1]  # two samples or more on either side
    cut = 2 + int(gaps.argmax())
    if gaps.max() < GAP or np.median(ratio[:cut]) >= 0:
        return 0.0
    return float(np.median(ratio[:cut]) + np.median(ratio[cut:])) / 2


def show_sex(female: np.ndarray, male: np.ndarray, *, margin: float) -> pd.DataFrame:
    """Sex (female, male, or "" where undecided) and log2 ratio to the middle of each sample.

    female, male: (samples,) counts of the female and of the male genes. margin: log2 ratio to either side of
    the middle that decides nothing.
    """
    middle = find_middle(female, male)
    ratio = np.log2((female + 0.5) / (male + 0.5)) - middle

    def is_beyond(own: np.ndarray, other: np.ndarray, middle: float) -> np.ndarray:
        odds = 2 ** (middle + margin)
        return stats.binom.sf(own - 1, own + other, odds / (1 + odds)) < ALPHA

    is_female, is_male = is_beyond(female, male, middle), is_beyond(male, female, -middle)
    sex = np.select([is_female, is_male], ["female", "male"], "")
    return pd.DataFrame({"sex": sex, "log2_ratio": ratio})


def state_sex(values: pd.Series, sex_levels: dict[str, list[str]]) -> pd.Series:
    """female, male or "" of each level as the config names it, in any case and without blanks around."""
    words = {word.strip().lower(): sex for sex, names in sex_levels.items() for word in names}
    return values.astype(object).map(lambda level: words.get(str(level).strip().lower(), ""))


def compare_sex(shown: pd.Series, stated: pd.Series, level: pd.Series) -> pd.Series:
    """agrees, contradicts, undecided, not_stated (no level) or unknown_level of each sample.

    shown: by expression, "" where undecided; stated: from state_sex; level: what the cohort says.
    """
    is_missing = level.isna() | (level.astype(object).astype(str).isin(["", "nan"]))
    return pd.Series(
        np.select(
            [is_missing, stated == "", shown == "", shown == stated],
            ["not_stated", "unknown_level", "undecided", "agrees"],
            "contradicts",
        ),
        index=level.index,
    )
