"""From a contrast and the samples of one cell type to a model matrix and the effect that is tested.

Factors have treatment coding: coefficients are differences from the reference. A numeric column that stands
bare is centred at its mean over the samples used and divided by its standard deviation, so that no number of
the fit, nor its bounds on coefficients, depends on units; a column inside a function is left as it is. With
an intercept, and with the parts of every product in the design, this is another parametrisation of the same
model: fitted means do not change, nor does any effect, or its statistic, that is not in a product. The
effect of one part of a product is the one at the mean (not the zero) of a numeric other part, and at the
reference of a factor. The tested effect is a combination of coefficients that undoes the scaling, so it is
per unit always.

A term of several columns (a spline, a factor of several levels) is tested as a whole: L @ coefficients = 0,
a row of L for each column, or for each difference from the first level where a factor has no reference. The
model without it is matrix @ N, N a basis of the null space of L.

Columns that others explain are left out (_aliases.py). Confounding is the variance inflation factor
1 / (1 - r^2), r the largest canonical correlation of the tested columns with the rest of the matrix, all
centred; for one column it is the usual one (Marquardt 1970, Technometrics 12:591), the factor by which the
rest widens the squared standard error.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from donors._aliases import TOLERANCE, columns_of_terms, complete, leave_out
from donors._contrast import Contrast, in_subset, levels, terms_of
from donors._gene_filter import tested_part
from donors._replication import check_aggregate, check_replication, sum_variables
from job import InputError


@dataclass(frozen=True)
class Design:
    """What is fitted to one table of samples, or the reason why nothing can be."""

    samples: pd.DataFrame  # sample, used, reason: a row for every sample
    matrix: pd.DataFrame | None = None  # used samples x coefficients; None when there is a reason. A row is
    # a donor where their samples are summed
    donors: pd.Series | None = None  # donor of each row of the matrix
    rows: np.ndarray | None = None  # (used samples,) their row of the matrix, where donors are summed
    hypothesis: np.ndarray | None = None  # (effects, coefficients): what is 0 if nothing changes
    term: tuple[str, ...] = ()  # the columns of the tested term
    levels: dict[str, list[str]] = field(default_factory=dict)  # in use, of each factor; reference first
    part: tuple[str, ...] = ()  # these, and the columns that give them their meaning (tested_part)
    joint: bool = False  # a term is tested as a whole, so there is no single fold change
    two_groups: bool = False  # one factor of two levels is the whole design
    coefficient: str = ""  # name of the tested effect
    coefficients: int | None = None  # number of columns of the matrix
    residual_df: int | None = None
    vif: float = np.nan  # variance inflation factor of the tested effect
    correlate: str = ""  # the column outside the term that correlates most with it
    correlation: float = np.nan  # Pearson's, over the samples used
    reason: str = ""
    message: str = ""

    @property
    def vector(self) -> np.ndarray:
        """(coefficients,) weights of the one tested effect: coefficients @ vector, per unit."""
        [vector] = self.hypothesis
        return vector

    @property
    def of_tested(self) -> np.ndarray:
        """(samples, coefficients) the part of the model matrix that is about the tested term, and ones."""
        columns = [column for column in self.matrix if column in self.part]
        return np.column_stack([np.ones(len(self.matrix)), self.matrix[columns].to_numpy()])

    @property
    def reduced(self) -> np.ndarray:
        """(samples, coefficients - effects) model matrix without the tested effects."""
        return without(self.matrix.to_numpy(), self.hypothesis)


def build(contrast: Contrast, obs: pd.DataFrame, *, min_samples: int, min_residual_df: int) -> Design:
    """The model matrix of the samples of one cell type, or the reason why the contrast cannot be tested.

    Reasons: too_few_samples (below min_samples, at least 2, once those without a covariate are out),
    single_level, missing_level, no_residual_df, confounded (a tested effect is not estimable). Columns that
    others explain are left out, and named in the message. Raises InputError when a function gives no
    finite number, and when samples of one donor would count as independent.
    """
    samples = choose_samples(obs, contrast)
    used, rows, donors = obs[samples["used"]], None, None
    if contrast.aggregate:
        check_aggregate(contrast, used)
        used, rows = sum_variables(contrast, used)
        donors = pd.Series(used.index, used.index)
    elif "donor" in used:
        donors = used["donor"]
    reason, message = _check_values(contrast, used[contrast.variables], samples, min_samples)
    if reason:
        return Design(samples, reason=reason, message=message)
    check_replication(contrast, used)
    used = used[contrast.variables]
    frame, scales = coded(contrast, used)
    matrix = _model_matrix(contrast, frame)
    effects, term = _tested_effects(contrast, matrix, scales)
    terms = columns_of_terms(matrix)
    matrix = pd.DataFrame(matrix.to_numpy(dtype=float), index=frame.index, columns=list(matrix.columns))
    hypothesis = np.array([[weights.get(column, 0.0) for column in matrix] for weights in effects])
    aliased, names, why = leave_out(matrix, hypothesis, term, terms)
    full = matrix.loc[:, ~aliased]
    hidden = contrast.factors or 0
    reason, message = _check_rank(full, why, names, hidden, min_residual_df)
    if not why:
        matrix, hypothesis = full, hypothesis[:, ~aliased]
        term = [column for column in term if column in matrix]
    vif, correlate, correlation = confounding(matrix, hypothesis, term)
    return Design(
        samples,
        matrix=None if reason else matrix,
        donors=donors,
        rows=rows,
        hypothesis=hypothesis,
        term=tuple(term),
        levels={name: list(frame[name].cat.categories) for name in contrast.references},
        part=tuple(tested_part(contrast, terms)),
        joint=len(effects) > 1 or (contrast.factor is not None and contrast.level is None),
        two_groups=len(contrast.variables) == 1 and len(contrast.references) == 1 and matrix.shape[1] == 2,
        coefficient=", ".join(" - ".join(weights) for weights in effects),
        coefficients=full.shape[1] + hidden,
        residual_df=full.shape[0] - full.shape[1] - hidden,
        vif=vif,
        correlate=correlate,
        correlation=correlation,
        reason=reason,
        message=message,
    )


def effect(contrast: Contrast, design: Design) -> str:
    """What a fold change compares: `per 10 of age`, `stim against ctrl`, `per 10 of age:sex, M against F`.

    The product of two categories is a difference of differences: `stim against ctrl, in M minus in F`.
    """
    if design.joint or (contrast.factor is not None and contrast.level is None):
        return f"any change with {contrast.test}"
    per_unit = f"per {contrast.unit:g} of {contrast.test}" if contrast.unit is not None else ""
    pairs = [design.levels[name] for name in contrast.tested if name in design.levels]
    if len(pairs) > 1:
        (base, level), *others = pairs
        within = [f"in {one} minus in {other}" for other, one in others]
        return ", ".join(filter(None, [per_unit, f"{level} against {base}", *within]))
    levels = f"{contrast.level} against {contrast.references[contrast.factor]}" if contrast.factor else ""
    return ", ".join(filter(None, [per_unit, levels])) or contrast.test


def choose_samples(obs: pd.DataFrame, contrast: Contrast) -> pd.DataFrame:
    """sample, used and reason of every row of obs.

    A reason that obs brings along (too_few_cells) stays; not_in_subset: contrast.subset leaves it out;
    missing_<column>: the first variable of the design without value.
    """
    reason = obs["reason"].astype(str) if "reason" in obs else pd.Series("", index=obs.index)
    reason = reason.mask((reason == "") & ~in_subset(obs, contrast.subset), "not_in_subset")
    for name in contrast.variables:
        missing = obs[name].isna() | (obs[name].astype(object) == "")
        reason = reason.mask((reason == "") & missing, f"missing_{name}")
    names = obs["sample"].astype(str) if "sample" in obs else obs.index.astype(str)
    return pd.DataFrame({"sample": names, "used": reason == "", "reason": reason}, index=obs.index)


def _check_values(
    contrast: Contrast, used: pd.DataFrame, samples: pd.DataFrame, min_samples: int
) -> tuple[str, str]:
    """Reason and message if the values of the used samples cannot make a model; empty if they can."""
    if len(used) < max(2, min_samples):
        lost = samples.loc[~samples["used"], "reason"].value_counts().sort_index()
        why = ", ".join(f"{code} {number}" for code, number in lost.items())
        left_out = f" ({why})" if why else ""
        few = f"{len(used)} of {len(samples)} samples can be used{left_out}"
        if contrast.aggregate:
            few = f"{len(used)} donors have samples that can be used{left_out}"
        return "too_few_samples", f"{few}; pseudobulk.min_samples is {min_samples}"
    for name in contrast.variables:
        found = levels(used[name]) if name in contrast.references else used[name].unique()
        if len(found) < 2:
            return "single_level", f"{name} is {found[0]} in all {len(used)} samples"
        compared = [contrast.references[name]] if name in contrast.needed else []
        compared += [contrast.level] if name == contrast.factor and contrast.level is not None else []
        for level in sorted(set(compared) - set(found)):
            return "missing_level", f"{name} is {level!r} in none of {len(used)} samples"
    return "", ""


def coded(contrast: Contrast, used: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """The variables as formulaic shall take them, and what each numeric one was divided by.

    Factors: levels in use, the reference first. A reference that is not in use gives way to the next level.
    """
    columns, scales = {}, {}
    for name in contrast.variables:
        if name in contrast.references:
            order = sorted(levels(used[name]), key=lambda level: (level != contrast.references[name], level))
            columns[name] = pd.Categorical(used[name].astype(str), categories=order)
        elif name in contrast.in_functions:
            columns[name], scales[name] = used[name].astype(float), 1.0
        else:
            values = used[name].astype(float)
            scales[name] = values.std()
            columns[name] = (values - values.mean()) / scales[name]
    return pd.DataFrame(columns, index=used.index), scales


def _model_matrix(contrast: Contrast, frame: pd.DataFrame):
    """The model matrix by formulaic, with the parts of the tested product.

    InputError when a function fails or gives no finite number.
    """
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    where = f"contrasts.{contrast.name}.design"
    [test] = terms_of(f"0 + {contrast.test}", f"contrasts.{contrast.name}.test")
    formula = complete(contrast.design, test, set(contrast.references))
    try:
        with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused below
            matrix = Formula(formula).get_model_matrix(frame, context={}, na_action="ignore")
    except FormulaicError as error:
        raise InputError(f"{where}: {error} correct {where}") from error
    finite = np.isfinite(matrix.to_numpy(dtype=float)).all(axis=0)
    if not finite.all():
        raise InputError(
            f"{where}: {matrix.columns[~finite][0]} is not finite in every sample; correct {where}"
        )
    return matrix


def _tested_effects(
    contrast: Contrast, matrix, scales: dict[str, float]
) -> tuple[list[dict[str, float]], list[str]]:
    """Of each tested effect the weights of the coefficients that make it, and the columns of the term.

    One effect is per unit. A factor coded without reference (`~ 0 + condition`) is level minus reference;
    all its levels together are their differences from the first.
    """
    name = contrast.factor
    [term] = terms_of(f"0 + {contrast.test}", f"contrasts.{contrast.name}.test")
    columns = list(matrix.columns[matrix.model_spec.term_slices[term]])
    numbers = [scales[variable] for variable in contrast.tested if variable in scales]
    per_unit = float(contrast.unit / np.prod(numbers)) if numbers and contrast.unit is not None else 1.0
    if name and contrast.level is None and not any(f"{name}[T." in column for column in columns):
        return [{column: 1.0, columns[0]: -1.0} for column in columns[1:]], columns
    if name and contrast.level is not None:
        treatment = [c for c in columns if f"{name}[T.{contrast.level}]" in c]
        if not treatment:
            there, base = (
                [c for c in columns if f"{name}[{level}]" in c]
                for level in (contrast.level, contrast.references[name])
            )
            return [{a: per_unit, b: -per_unit} for a, b in zip(there, base, strict=True)], there + base
        columns = treatment
    return [{column: per_unit} for column in columns], columns


def _check_rank(
    matrix: pd.DataFrame, why: str, aliased: str, hidden: int, min_residual_df: int
) -> tuple[str, str]:
    """Reason and message if the model cannot be fitted; no reason, but perhaps a message, if it can.

    matrix: of full rank; why: an effect is not estimable; aliased: the columns that were left out;
    hidden: number of hidden factors that it will get.
    """
    samples, columns = matrix.shape[0], matrix.shape[1] + hidden
    if samples - columns < min_residual_df:
        of_them = f" ({hidden} of hidden factors)" if hidden else ""
        return "no_residual_df", (
            f"{samples} samples for {columns} coefficients{of_them} leave {samples - columns} residual "
            f"degrees of freedom; differential.min_residual_df is {min_residual_df}"
        )
    if why:
        return "confounded", why
    messages = [f"left out, since the rest of the design explains it: {aliased}"] if aliased else []
    alone = int((leverage(matrix.to_numpy()) > 1 - TOLERANCE).sum())
    messages += [f"samples with a coefficient of their own, which tell nothing: {alone}"] if alone else []
    return "", "; ".join(messages)


def without(matrix: np.ndarray, hypothesis: np.ndarray) -> np.ndarray:
    """The model matrix of the models that satisfy hypothesis @ coefficients = 0."""
    tested = hypothesis != 0
    if (tested.sum(axis=1) == 1).all():  # the columns themselves
        return matrix[:, ~tested.any(axis=0)]
    _, values, rows = np.linalg.svd(hypothesis)
    return matrix @ rows[len(values) :].T


def confounding(matrix: pd.DataFrame, hypothesis: np.ndarray, term: list[str]) -> tuple[float, str, float]:
    """Variance inflation factor of the tested effects, the column most correlated with them, its correlation.

    term: columns of the tested term, which are not among them. Infinite where the rest of the design
    explains a tested column; ("", nan) when there is no other column that varies.
    """
    x = matrix.to_numpy()
    rest = _orthonormal(_centred(without(x, hypothesis)))
    tested = _centred(x @ np.linalg.pinv(hypothesis))
    largest = np.linalg.svd(_orthonormal(tested).T @ rest, compute_uv=False).max(initial=0.0)
    vif = 1 / (1 - largest**2) if largest**2 < 1 - TOLERANCE else np.inf
    others = _centred(matrix.drop(columns=term).to_numpy())
    varies = np.linalg.norm(others, axis=0) > TOLERANCE * np.sqrt(len(x))
    if not varies.any():
        return float(vif), "", np.nan
    names = matrix.columns.drop(term)[varies]
    pairs = _unit(tested).T @ _unit(others[:, varies])
    effect, other = np.unravel_index(np.abs(pairs).argmax(), pairs.shape)
    return float(vif), names[other], float(pairs[effect, other])


def _centred(columns: np.ndarray) -> np.ndarray:
    return columns - columns.mean(axis=0)


def _unit(columns: np.ndarray) -> np.ndarray:
    return columns / np.maximum(np.linalg.norm(columns, axis=0), np.finfo(float).tiny)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the space of the columns, each scaled to length 1 before."""
    length = np.linalg.norm(columns, axis=0)
    columns = columns[:, length > TOLERANCE * max(length.max(initial=0.0), 1e-300)]
    basis, values, _ = np.linalg.svd(_unit(columns), full_matrices=False)
    return basis[:, values > TOLERANCE * values.max(initial=0.0)]


def leverage(matrix: np.ndarray) -> np.ndarray:
    """(samples,) diagonal of the hat matrix of a full-rank matrix; 1 where a sample is fitted exactly."""
    return (np.linalg.qr(matrix).Q ** 2).sum(axis=1)
