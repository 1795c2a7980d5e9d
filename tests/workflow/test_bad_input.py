"""Cohorts and configs that cannot be analysed: one clear line names what to change, nothing is left.

Most run through the functions of the step that must refuse them, some through the real command line.
"""

import copy
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.sparse import csr_matrix

from cohort import filter as filter_step
from cohort import load as load_step
from donors import _contrast
from job import collect_warnings
from job._failures import Category, classify
from pathways import _gene_sets
from workflow.checks import find_problems
from workflow.defaults import DEMO, complete_config

ROOT = Path(__file__).parent.parent.parent
DEFAULTS = complete_config(ROOT, [])
LABELS = [
    *(
        "a/b",
        "..",
        "../../etc/passwd",
        "a::b",
        "it's",
        'say "x"',
        "<script>alert(1)</script>",
        "🧬",
        "x" * 300,
    ),
    *("CD4", "cd4", "$(touch owned)", "`id`", "a;b", "{wildcard}", "-rf", "CON", "a\\b", "%2e%2e", "*"),
]
SLUG = re.compile(r"[a-z0-9_-]+")  # the wildcard_constraint of cell_type


def cohort(counts=None, index=None, genes=None, **columns):
    """60 cells of 6 donors with all that the default config names."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(6), 10)
    obs = pd.DataFrame(
        {
            "donor_id": [f"d{number}" for number in donor],
            "cell_type": "T cell",
            "age": 20.0 + 10 * donor,
            "sex": np.where(donor % 2, "female", "male"),
            "pool_number": "1",
        },
        index=[f"cell{number}" for number in range(60)] if index is None else index,
    ).assign(**columns)
    counts = rng.poisson(1.0, (60, 30)).astype(np.float32) if counts is None else counts
    genes = [f"ENSG{number:011d}" for number in range(30)] if genes is None else genes
    texts = {name: object for name in ("donor_id", "cell_type", "sex") if obs[name].dtype != np.int64}
    data = ad.AnnData(counts, obs=obs.astype(texts))
    data.obs_names, data.var_names = obs.index.astype(object), pd.Index(genes, dtype=object)
    data.var["feature_name"] = pd.Series(genes, index=data.var_names, dtype=object)
    return data


def written(data, path=Path("bad.h5ad")):
    with ad.settings.override(allow_write_nullable_strings=False):
        data.write_h5ad(path)
    return path


def poisson():
    return np.random.default_rng(0).poisson(1.0, (60, 30)).astype(np.float32)


def with_value(value):
    counts = poisson()
    counts[7, 3] = value
    return csr_matrix(counts)


def one_value(value):
    """A single bad value among many cells, too few to be met by the sample that finds the counts."""
    counts = poisson()
    counts[:, 0] = 1
    counts = np.tile(counts, (1, 200))
    counts[40, 4500] = value
    return csr_matrix(counts)


def without(column):
    data = cohort()
    del data.obs[column]
    return data


def changed(part, change):
    """A written cohort in which a part of the file is replaced."""
    path = written(cohort(counts=csr_matrix(poisson())))
    with h5py.File(path, "r+") as file:
        values = file[part][:]
        change(values)
        file[part][:] = values
    return path


def removed(part):
    path = written(cohort(counts=csr_matrix(poisson())))
    with h5py.File(path, "r+") as file:
        del file[part]
    return path


def cut(share):
    path = written(cohort())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def plain(content):
    Path("bad.h5ad").write_bytes(content)
    return Path("bad.h5ad")


def lost():
    path = written(cohort())
    path.unlink()
    return path


def folder_in_its_place():
    Path("bad.h5ad").mkdir()
    return Path("bad.h5ad")


def sheet(text):
    Path("sheet.tsv").write_text(text)
    return Path("sheet.tsv")


TWICE = [f"cell{number}" for number in [0, *range(59)]]
GENES = [f"G{number}" for number in range(30)]
CONFIGURATION, CORRUPTED = Category.CONFIGURATION, Category.CORRUPTED_INPUT
COHORTS = {  # name: (what makes the file, load settings, category, what the line must say)
    "NaN": (lambda: cohort(with_value(np.nan)), {}, CONFIGURATION, "set load.counts"),
    "negative": (lambda: cohort(with_value(-1)), {}, CONFIGURATION, "set load.counts"),
    "fraction": (lambda: cohort(with_value(0.5)), {}, CONFIGURATION, "set load.round"),
    "infinite": (lambda: cohort(with_value(np.inf)), {}, CONFIGURATION, "set load.counts"),
    "log-normalised": (lambda: cohort(np.log1p(poisson())), {}, CONFIGURATION, "set load.counts"),
    "scaled": (lambda: cohort(poisson() - 1.5), {}, CONFIGURATION, "set load.counts"),
    "only zeros": (lambda: cohort(poisson() * 0), {}, CONFIGURATION, "only zeros"),
    "beyond int32": (lambda: cohort(with_value(2.0**40)), {}, CONFIGURATION, "set load.counts"),
    "a fraction named": (lambda: cohort(np.log1p(poisson())), {"counts": "X"}, CONFIGURATION, "load.counts"),
    "no such layer": (cohort, {"counts": "layers/counts"}, CONFIGURATION, "set load.counts"),
    "cell ids twice": (lambda: cohort(index=TWICE), {}, CONFIGURATION, "'cell0'"),
    "gene ids twice": (lambda: cohort(genes=["G0", *GENES[:29]]), {}, CONFIGURATION, "'G0'"),
    "empty gene ids": (lambda: cohort(genes=["", "", *GENES[:28]]), {}, CONFIGURATION, "gene ids repeat"),
    "no donor column": (lambda: without("donor_id"), {}, CONFIGURATION, "load.donor"),
    "no type column": (lambda: without("cell_type"), {}, CONFIGURATION, "load.cell_type"),
    "no covariate": (lambda: without("age"), {}, CONFIGURATION, "load.covariates (age)"),
    "no pool column": (lambda: without("pool_number"), {}, CONFIGURATION, "load.pool"),
    "no symbols": (cohort, {"symbols": "symbol"}, CONFIGURATION, "load.symbols"),
    "age varies": (lambda: cohort(age=np.arange(60.0)), {}, CONFIGURATION, "age is"),
    "sex varies": (lambda: cohort(sex=["male", "female"] * 30), {}, CONFIGURATION, "sex is"),
    "age is text": (lambda: cohort(age="old"), {}, CONFIGURATION, "load.covariates: age"),
    "age is missing": (lambda: cohort(age=np.nan), {}, CONFIGURATION, "load.covariates: age"),
    "one donor": (lambda: cohort(donor_id="one", age=30.0, sex="male"), {}, CONFIGURATION, "load.shards"),
    "no donor": (lambda: cohort(donor_id=""), {}, CONFIGURATION, "none of 60 cells is usable"),
    "no type": (lambda: cohort(cell_type="nan"), {}, CONFIGURATION, "none of 60 cells is usable"),
    "no cell": (lambda: cohort()[:0].copy(), {}, CONFIGURATION, "co"),
    "all excluded": (
        *(cohort, {"exclude": [{"column": "cell_type", "values": ["T cell"]}]}, CONFIGURATION),
        "none of 60 cells is usable",
    ),
    "exclude what is not": (
        *(cohort, {"exclude": [{"column": "sex", "values": ["x"]}]}, CONFIGURATION, "load.exclude"),
    ),
    "more shards than donors": (cohort, {"shards": 7}, CONFIGURATION, "set load.shards lower"),
    "covariate that is no name": (
        *(cohort, {"covariates": [{"name": "import", "column": "age", "type": "numeric"}]}, CONFIGURATION),
        "cannot be used in a formula",
    ),
    "cut off": (lambda: cut(0.4), {}, CORRUPTED, "cannot be read"),
    "cut off at the end": (lambda: cut(0.99), {}, CORRUPTED, "cannot be read"),
    "empty file": (lambda: plain(b""), {}, CORRUPTED, "cannot be read"),
    "text": (lambda: plain(b"gene,count\nA,1\n"), {}, CORRUPTED, "cannot be read"),
    "other binary": (lambda: plain(b"\x1f\x8b" + bytes(2000)), {}, CORRUPTED, "cannot be read"),
    "vanished": (lost, {}, CONFIGURATION, "does not exist; correct it"),
    "damaged pointers": (
        *(lambda: changed("X/indptr", lambda x: x.__setitem__(5, 9999)), {}, CORRUPTED, "get the file again"),
    ),
    "damaged indices": (
        *(lambda: changed("X/indices", lambda x: x.__setitem__(5, 9999)), {}, CORRUPTED, "again"),
    ),
    "no obs": (lambda: removed("obs"), {}, CONFIGURATION, "cohort.path"),
    "no index": (lambda: removed("obs/_index"), {}, CORRUPTED, "get the file again"),
    "no var": (lambda: removed("var"), {}, CORRUPTED, "get the file again"),
    "no indptr": (lambda: removed("X/indptr"), {}, CORRUPTED, "get the file again"),
    "sheet without path": (lambda: sheet("file\nx.h5ad\n"), {}, CONFIGURATION, "'path'"),
    "sheet of nothing": (lambda: sheet(""), {}, CONFIGURATION, "sheet.tsv"),
    "sheet of lost files": (lambda: sheet("path\nnowhere.h5ad\n"), {}, CONFIGURATION, "nowhere.h5ad"),
}  # fmt: skip


def run_load(path, **settings):
    out = SimpleNamespace(
        shards=[f"shard{number}.h5ad" for number in range(settings.get("shards", 2))],
        **{name: f"{name}.out" for name in ("cells", "samples", "genes", "cohort")},
    )
    given = DEFAULTS["load"] | settings
    with collect_warnings():
        return load_step.load([str(path)], out, block_values=1000, **given)


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")  # what two are about
@pytest.mark.parametrize("name", COHORTS)
def test_a_poisoned_cohort_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, settings, category, message = COHORTS[name]
    made = make()
    path = made if isinstance(made, Path) else written(made)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 the message is compared below
        run_load(path, **settings)
    assert isinstance(refused.value, load_step.InputError), refused.value
    line = str(refused.value)
    assert "\n" not in line
    assert message in line
    assert classify(refused.value).category == category


def test_a_bad_value_that_no_sample_meets_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    genes = [f"G{number}" for number in range(6000)]
    data = ad.AnnData(one_value(0.25), obs=cohort().obs.astype(object))
    data.obs["age"] = data.obs["age"].astype(float)
    data.var_names = genes
    data.var["feature_name"] = pd.Series(genes, index=genes, dtype=object)
    with pytest.raises(load_step.InputError, match=r"'cell40' has 0\.25, not a count; set load\.counts"):
        run_load(written(data))


GOES_ON = {  # name: (cohort, the table that must have a row with this reason or value)
    "donor ids are integers": (
        lambda: cohort(donor_id=np.repeat(np.arange(6), 10)),
        lambda: set(pd.read_parquet("samples.out")["donor"]) == set("012345"),
    ),
    "some cells have no donor": (
        lambda: cohort(donor_id=[""] * 5 + [f"d{n // 10}" for n in range(5, 60)]),
        lambda: (pd.read_parquet("cells.out")["reason"] == "missing_sample").sum() == 5,
    ),
    "one cell type": (cohort, lambda: set(pd.read_parquet("cells.out")["cell_type"]) == {"T cell"}),
    "a cell without counts": (
        lambda: cohort(csr_matrix(poisson() * (np.arange(60) != 3)[:, None])),
        lambda: len(pd.read_parquet("cells.out")) == 60,
    ),
    "age unknown in one donor": (
        lambda: cohort(age=np.where(np.arange(60) < 10, np.nan, 20.0 + 10 * (np.arange(60) // 10))),
        lambda: pd.read_parquet("samples.out")["age"].isna().sum() == 1,
    ),
    "an empty gene id": (lambda: cohort(genes=["", *GENES[:29]]), lambda: True),
    "labels of any kind": (
        lambda: cohort(cell_type=[LABELS[n % len(LABELS)] for n in range(60)]),
        lambda: set(pd.read_parquet("cells.out")["cell_type"]) == set(LABELS),
    ),
}


@pytest.mark.parametrize("name", GOES_ON)
def test_what_can_go_on_does_with_a_row_for_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, holds = GOES_ON[name]
    run_load(written(make()))
    assert holds()


def test_no_label_reaches_a_path():
    ids = filter_step.name_ids(LABELS)
    assert set(ids) == set(LABELS)
    assert all(SLUG.fullmatch(slug) and len(slug) < 80 for slug in ids.values())
    assert len({slug.casefold() for slug in ids.values()}) == len(LABELS)


FEW = pd.DataFrame({"B": [3, 2], "T": [4, 5]}, index=["d1", "d2"])
FILTER = DEFAULTS["filter"] | {"min_cells_per_sample": 1, "min_cells_per_type": 1, "min_cells_in_type": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_cells_per_sample": 99}, "lower filter.min_cells_per_sample, now 99"),
        ({"min_cells_per_type": 99}, "lower filter.min_cells_per_type, now 99"),
        ({"min_cells_in_type": 9, "min_sample_share": 0.5}, "filter.min_sample_share"),
    ],
)
def test_all_dropped_names_the_setting(settings, message):
    with pytest.raises(filter_step.InputError, match=message):
        filter_step.choose(FEW, **FILTER | settings)


AGE = {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
OBS = pd.DataFrame({"age": [20.0, 40, 60], "sex": ["m", "f", "m"], "sample": list("abc")})
FORMULAS = [
    *("~ __import__('os').system('touch owned')", "~ open('x')", "~ eval('1')", "~ age + (lambda: 1)()"),
    *(
        "~ age.__class__",
        "~ log(open('x'))",
        "~ [age]",
        "~ age; import os",
        "~ age if age else sex",
        "~ `age`",
    ),
    *(
        "~ Q('age')",
        "~ C(sex)",
        "~ age ** 2",
        "~ {age}",
        "~ age + 'x'",
        "~ log(age, base=open('x'))",
        "~ age |",
    ),
    *("~ np.log(age)", "~ age[0]", "~ age + f'{age}'", "~ (x := age)", "~"),
]


@pytest.mark.parametrize("design", FORMULAS)
def test_code_in_a_formula_is_refused_unevaluated(design, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(_contrast.InputError) as refused:
        _contrast.resolve_contrast(AGE | {"design": design, "test": "age"}, OBS)
    assert "contrasts.age" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def gmt(content):
    Path("sets.gmt").write_bytes(content)
    return "sets.gmt"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no gene sets"),
        (b"\x1f\x8b\xff\xfe", "is not UTF-8 text"),
        (b"only a name\n", "line 1 is not a gene set"),
        (b"A\tx\tG1\nA\tx\tG2\n", "has the set A twice"),
        (b"<html>\n<body>\n", "line 1 is not a gene set"),
    ],
)
def test_a_gene_set_file_that_is_none(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(_gene_sets.InputError, match=message):
        _gene_sets.read_collections([gmt(content)])


def problems_of(config):
    """What rules/checks.smk refuses a config for."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))
    return find_problems(config, schema)


def merged(base, overlay):
    result = copy.deepcopy(base)
    for key, value in overlay.items() if isinstance(overlay, dict) else ():
        result[key] = merged(result[key], value) if isinstance(value, dict) and key in result else value
    return result


def sections(schema, path=()):
    """Every mapping of the config with a closed set of keys, and a valid value of each."""
    for name, content in schema["properties"].items():
        if content.get("type") == "object" and "properties" in content:
            yield (*path, name)
            yield from sections(content, (*path, name))


def unknown_key(path):
    overlay = {"no_such_key": 1}
    for key in reversed(path):
        overlay = {key: overlay}
    return overlay


SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text())
CONFIGS = {
    **{f"unknown key in {'.'.join(path)}": (unknown_key(path), ".".join(path)) for path in sections(SCHEMA)},
    "unknown section": ({"no_such_key": 1}, "config"),
    "unknown key in a contrast": ({"contrasts": [AGE | {"no_such_key": 1}]}, "contrasts.0"),
    "unknown key in a covariate": (
        {"load": {"covariates": [{"name": "age", "column": "age", "type": "numeric", "no_such_key": 1}]}},
        "load.covariates.0",
    ),
    "unknown key in a policy": (unknown_key(("retries", "transient_io")), "retries.transient_io"),
    "a policy for what repeats itself": ({"retries": {"configuration": {"max_retries": 1}}}, "retries"),
    "an unknown code to accept": (
        {"warnings": {"accept": ["gene_not_shared"]}},
        "warnings.accept: 'gene_not_shared' is not a warning code; use genes_not_shared",
    ),
    "an unknown code to refuse": (
        {"warnings": {"error": ["x"]}},
        "warnings.error: 'x' is not a warning code; use one of docs/warnings.md",
    ),
    "a code that is accepted and an error": (
        {"warnings": {"accept": ["other_counts"], "error": ["other_counts"]}},
        "'other_counts' is in accept and in error",
    ),
    "alpha 0": ({"ridge": {"alpha": [0]}}, "ridge.alpha.0: 0"),
    "alpha negative": ({"ridge": {"alpha": [-1]}}, "ridge.alpha.0: -1"),
    "alpha text": ({"ridge": {"alpha": ["ten"]}}, "ridge.alpha.0: 'ten'"),
    "alpha no list": ({"ridge": {"alpha": 10}}, "ridge.alpha: 10"),
    "alpha empty": ({"ridge": {"alpha": []}}, "ridge.alpha"),
    "alpha twice": ({"ridge": {"alpha": [1, 1]}}, "ridge.alpha"),
    "resolution negative": ({"cluster": {"resolution": [-0.5]}}, "cluster.resolution.0"),
    "seed text": ({"random_state": "x"}, "random_state"),
    "shards 0": ({"load": {"shards": 0}}, "load.shards: 0"),
    "shards many": ({"load": {"shards": 1000}}, "load.shards: 1000"),
    "share above 1": ({"filter": {"min_sample_share": 2}}, "filter.min_sample_share: 2"),
    "percent above 100": ({"qc": {"max_pct_mt": 101}}, "qc.max_pct_mt: 101"),
    "a section that is text": ({"qc": "strict"}, "qc: 'strict'"),
    "contrast with a path for a name": ({"contrasts": [AGE | {"name": "../x"}]}, "contrasts.0.name"),
    "contrast with markup for a name": ({"contrasts": [AGE | {"name": "<b>"}]}, "contrasts.0.name"),
    "covariate with code for a name": (
        {"load": {"covariates": [{"name": "a;b", "column": "age", "type": "numeric"}]}},
        "load.covariates.0.name",
    ),
    "unknown name in a design": ({"contrasts": [AGE | {"design": "~ age + bmi"}]}, "'bmi' is not a column"),
    "broken design": ({"contrasts": [AGE | {"design": "~ age +"}]}, "is not a formula"),
    "design without ~": ({"contrasts": [AGE | {"design": "age"}]}, "contrasts.0.design"),
    "code in a design": (
        {"contrasts": [AGE | {"design": "~ age + __import__('os').system('touch owned')"}]},
        "has what a formula may not have",
    ),
    "a function that no formula has": (
        {"contrasts": [AGE | {"design": "~ exp(age) + sex"}]},
        "has what a formula may not have",
    ),
    "cohort that is nowhere": ({"cohort": {"path": "nowhere.h5ad"}, "gene_sets": []}, "does not exist"),
    "gene sets that are nowhere": ({"gene_sets": ["no.gmt"]}, "gene_sets: no.gmt does not exist"),
    "url with a shell in it": ({"cohort": {"url": "https://x/$(id)"}, "gene_sets": []}, "cohort.url"),
    "url of a file": ({"cohort": {"url": "file:///etc/passwd"}, "gene_sets": []}, "cohort.url"),
    "checksum that is none": ({"cohort": {"sha256": "abc"}}, "cohort.sha256"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_poisoned_config_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overlay, message = CONFIGS[name]
    problems = problems_of(merged(DEFAULTS, overlay))
    assert any(message in problem for problem in problems), problems
    assert not [problem for problem in problems if "\n" in problem]
    assert not list(tmp_path.iterdir())


def test_the_default_config_is_accepted():
    assert problems_of(copy.deepcopy(DEFAULTS)) == []


def test_the_tables_are_long_enough():
    assert len(COHORTS) + len(GOES_ON) >= 40
    assert len(CONFIGS) >= 40


def plain_copy():
    return cohort(np.log1p(poisson()))


BAD = {
    "load.counts": (plain_copy, "configuration"),
    "age is": (lambda: cohort(age=np.arange(60.0)), "configuration"),
    "bad.h5ad: cannot be read": (lambda: cut(0.4), "corrupted_input"),
}


@pytest.mark.parametrize("setting", BAD)
def test_the_command_line_shows_one_line_and_leaves_nothing(checkout, setting, monkeypatch):
    monkeypatch.chdir(checkout.folder)
    make, category = BAD[setting]
    made = make()
    path = made if isinstance(made, Path) else written(made)
    before = path.read_bytes()
    demo = yaml.safe_load((ROOT / DEMO).read_text())
    overlay = demo | {"cohort": {"path": "bad.h5ad"}, "gene_sets": []}
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    done = checkout.attempt("--profile", "profiles/local", "--configfile", "overlay.yaml", "--retries", "2")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    (failure,) = map(json.loads, (checkout.folder / "results/run/failures.jsonl").read_text().splitlines())
    assert (failure["category"], failure["attempt"]) == (category, 1)
    assert setting in failure["message"]
    assert failure["message"].count("\n") == 0
    assert failure["evidence"] in done.stdout
    assert (checkout.folder / "results/run/failures.txt").read_text() in done.stdout
    assert not list((checkout.folder / "results/load").rglob("*.*"))
    assert path.read_bytes() == before


def test_a_path_with_every_quote_is_only_a_path(checkout, monkeypatch):
    """Neither a shell nor a pattern of Snakemake reads the cohort's path."""
    monkeypatch.chdir(checkout.folder)
    path = Path("my 'co\"hort;$(touch owned) & more.h5ad")
    written(cohort(np.log1p(poisson())), path)
    overlay = {"cohort": {"path": str(path)}, "gene_sets": []}
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    done = checkout.attempt("--profile", "profiles/ci", "--configfile", "overlay.yaml")
    assert done.returncode != 0
    assert "has no raw counts there" in done.stdout
    assert not Path("owned").exists()


def test_an_unreadable_file_is_refused_before_any_job(monkeypatch, tmp_path):
    """The permission is asked of the system, so that this also holds for root."""
    monkeypatch.chdir(tmp_path)
    path = written(cohort())
    monkeypatch.setattr(os, "access", lambda *_: False)
    problems = problems_of(merged(DEFAULTS, {"cohort": {"path": str(path)}, "gene_sets": []}))
    assert problems == [f"cohort.path: {path} cannot be read; check its permissions"]
