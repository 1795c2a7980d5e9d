"""A contrast of the config, checked and completed with the table of all samples.

A design is a formula of columns of that table, with + - * : ( ) 0 1 and the functions below. Nothing else is
passed on to formulaic, which would run any Python. What is decided here holds for the whole cohort, so that a
reference level is the same in every cell type.
"""

from dataclasses import dataclass

import pandas as pd

from donors._formula import is_curve, parse, variables_of
from job import InputError


@dataclass(frozen=True)
class Contrast:
    """What is tested. A factor is a categorical variable; its levels are compared with a reference."""

    name: str
    design: str
    test: str  # a term of the design
    variables: list[str]  # of the design
    in_functions: set[str]  # variables that are in a function somewhere
    tested: list[str]  # variables of the tested term
    unit: float | None  # None when the tested term has no numeric variable
    factor: str | None  # the one factor of the tested term
    level: str | None  # its level that is compared with its reference; None: all levels are tested together
    references: dict[str, str]  # of every factor of the design
    needed: set[str]  # factors with a reference on which the meaning of the tested effect depends
    subset: dict[str, list]  # column -> values of the samples that take part; empty for all
    block: str | None = None  # donor: samples of a donor are correlated
    aggregate: str | None = None  # donor: samples of a donor are summed
    sample_weights: bool = False  # each sample has a weight by its residuals
    factors: int | None = None  # hidden factors that the design gets; None: none are looked for

    @property
    def by_voom(self) -> bool:
        """Whether genes are tested by limma-voom, and not by DESeq2."""
        return bool(self.block) or self.sample_weights


def terms_of(formula: str, setting: str) -> list:
    """The terms of a formula, as formulaic understands them."""
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    try:
        return [term for term in Formula(formula) if str(term) not in ("0", "1")]
    except FormulaicError as error:
        raise InputError(f"{setting}: {formula!r} is not a formula ({error}); correct {setting}") from error


def is_factor(values: pd.Series) -> bool:
    """Whether a column is a category in a model: text and truth values are."""
    return not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)


def levels(values: pd.Series) -> list[str]:
    """Levels that a factor has, sorted; missing values and "" are none."""
    return sorted(set(values.dropna().astype(str)) - {""})


def resolve_contrast(contrast: dict, obs: pd.DataFrame) -> Contrast:
    """Check a contrast of the config against the table of all samples and decide what it leaves open.

    contrast: name, design, test and, where they apply, unit, level, reference, references (by variable) and
    subset (values by column), outside of which no sample counts here. A reference that is not given is the
    first level in alphabetical order, apart from the level compared. A tested factor of three levels or more
    without level and reference is tested as a whole. block and aggregate say what is done about donors with
    several samples.
    Raises InputError, naming the key, for whatever does not fit.
    """
    where, test = f"contrasts.{contrast['name']}", contrast["test"]
    subset = contrast.get("subset", {})
    _check_subset(subset, obs, f"{where}.subset")
    obs = obs[in_subset(obs, subset)]
    variables, in_functions = variables_of(parse(contrast["design"], f"{where}.design"))
    _check_columns(variables, in_functions, obs, f"{where}.design")
    tree = parse(test, f"{where}.test")
    tested, _ = variables_of(tree)
    terms, wanted = terms_of(contrast["design"], f"{where}.design"), terms_of(f"0 + {test}", f"{where}.test")
    if len(wanted) != 1 or wanted[0] not in terms:
        has = ", ".join(map(str, terms)) or "none"
        raise InputError(
            f"{where}.test: {test!r} is not a term of the design (it has: {has}); correct {where}.test"
        )
    factors = [name for name in variables if is_factor(obs[name])]
    numeric = bool(set(tested) - set(factors))
    curve = is_curve(tree)
    if "unit" in contrast and (curve or not numeric):
        what = "a curve, tested as a whole" if curve else "no number"
        raise InputError(f"{where}.unit: {test!r} is {what}; remove {where}.unit")
    factor, level, references = _resolve_levels(contrast, obs, factors, [n for n in tested if n in factors])
    products = [str(term) for term in terms if term.degree > 1]
    multiplied = {name for product in products for name in variables_of(parse(product, where))[0]}
    return Contrast(
        name=contrast["name"],
        design=contrast["design"],
        test=test,
        variables=variables,
        in_functions=in_functions,
        tested=tested,
        unit=float(contrast.get("unit", 1)) if numeric and not curve else None,
        factor=factor,
        level=level,
        references=references,
        needed=(multiplied | (set(tested) if level is not None else set())) & set(factors),
        subset=subset,
        block=contrast.get("block"),
        aggregate=contrast.get("aggregate"),
        sample_weights=contrast.get("sample_weights", False),
        factors=contrast.get("factors"),
    )


def in_subset(obs: pd.DataFrame, subset: dict[str, list]) -> pd.Series:
    """(samples,) bool: whether each sample has one of the values of every column of the subset."""
    inside = pd.Series(True, index=obs.index)
    for name, values in subset.items():
        as_text = is_factor(obs[name])
        inside &= obs[name].astype(str).isin(map(str, values)) if as_text else obs[name].isin(values)
    return inside


def _check_subset(subset: dict[str, list], obs: pd.DataFrame, setting: str) -> None:
    """Raise InputError for a column that is none, or a value that no sample has."""
    _check_columns(list(subset), set(), obs, setting)
    for name, values in subset.items():
        for value in values:
            if not in_subset(obs, {name: [value]}).any():
                has = ", ".join(map(str, sorted(set(obs[name].dropna()))[:20]))
                raise InputError(f"{setting}: {name} is never {value!r} (it is: {has}); correct {setting}")


def _check_columns(variables: list[str], in_functions: set[str], obs: pd.DataFrame, setting: str) -> None:
    """Raise InputError for a variable that is not a column, and for text inside a function."""
    columns = list(map(str, obs))
    for name in variables:
        if name not in columns:
            raise InputError(
                f"{setting}: {name!r} is not a column of the samples (they have: {', '.join(columns)}); "
                f"correct {setting} or add {name} to load.covariates"
            )
        if name in in_functions and is_factor(obs[name]):
            raise InputError(f"{setting}: {name!r} is text inside a function; take it out in {setting}")


def _resolve_levels(
    contrast: dict, obs: pd.DataFrame, factors: list[str], tested: list[str]
) -> tuple[str | None, str | None, dict[str, str]]:
    """The factor with the levels that are compared, the level, and the reference of every factor.

    factors: of the design; tested: those of the tested term.
    """
    where = f"contrasts.{contrast['name']}"
    references = dict(contrast.get("references", {}))
    factor, level = tested[0] if len(tested) == 1 else None, contrast.get("level")
    for key in ("level", "reference"):
        if key in contrast and factor is None:
            raise InputError(
                f"{where}.{key}: {contrast['test']!r} has {len(tested)} categories; remove {where}.{key}"
            )
    if "reference" in contrast:
        references[factor] = contrast["reference"]
    for name in references:
        if name not in factors:
            raise InputError(f"{where}.references: {name!r} is not a category of the design; remove it")
    for name in factors:
        has = levels(obs[name])
        others = [value for value in has if (name, value) != (factor, level)]
        references.setdefault(name, others[0] if others else "")
        asked = [references[name]] if others else []
        asked += [level] if name == factor and level is not None else []
        for value in asked:
            if value not in has:
                raise InputError(
                    f"{where}: {name} is never {value!r} (it is: {', '.join(has[:20])}); correct {where}"
                )
    if factor is None:
        return None, None, references
    others = [value for value in levels(obs[factor]) if value != references[factor]]
    if level is None and len(others) > 1:
        if "reference" not in contrast:
            return factor, None, references
        raise InputError(
            f"{where}.level: {factor} has {len(others)} levels beside the reference {references[factor]!r} "
            f"({', '.join(others[:20])}); name the one to compare in {where}.level, or remove "
            f"{where}.reference to test all levels together"
        )
    if level is not None and level == references[factor]:
        raise InputError(f"{where}.level: {level!r} is the reference too; correct {where}.level")
    return factor, level if level is not None else "".join(others), references
