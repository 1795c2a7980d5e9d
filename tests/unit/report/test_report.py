"""The page's data: what is in it, shortened, escaped and complete."""

import base64
import gzip
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from files import colour
from report import report
from report._cells import dependence, histograms, kept_by_sample, layers, paint
from report._genes import donor_values, effects, heatmap, pathways, strongest
from report._page import PAGE_FILES, SCRIPTS
from report._tables import number, pack, read
from report._words import costs, failures, losses, strata
from simulated_tables import EVIL, EVIL_GENE, PLANTED, write

ROOT = Path(__file__).parent.parent.parent.parent
FOLDER = ROOT / "scripts/report/page"
COHORT = [
    "warnings",
    "cells",
    "samples",
    "attrition",
    "cell_types",
    "genes",
    "cohort_facts",
    "clusters_agreement",
    "markers",
    "sample_summary",
    "sample_pairs",
]
SIZES = {"types": 3, "genes": 60, "samples": 12, "cells": 600, "terms": 70}


def unpack(data):
    return json.loads(gzip.decompress(base64.b64decode(data)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Paths, params, blocks, words and page of a small cohort."""
    folder = tmp_path_factory.mktemp("tables")
    paths, params = write(folder / "in", **SIZES)
    (folder / "benchmarks").mkdir()
    blocks, words = report.gather(paths, params, folder / "benchmarks")
    return paths, params, blocks, words, report.render(FOLDER, blocks, words)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of scripts."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts, self.inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


def test_numbers_are_shortened_and_missing_ones_are_null():
    assert [number(value) for value in (0.123456, 123456.0, 1e-300, 12.0, np.nan, np.inf, None)] == [
        0.1235, 123500, 1e-300, 12, None, None, None,
    ]  # fmt: skip
    assert str(number(12.0)) == "12"


def test_packed_data_come_back_and_hold_no_markup():
    value = {"a": [1, None, 0.5], "b": ["</script><script>", "ä"]}
    packed = pack(value)
    assert unpack(packed) == value
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed)
    assert pack(value) == packed, "the same data make the same bytes"


def test_ids_and_symbols_stay_text(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("sample\tsymbol\tage\tr2\tkept\n007\tNA\t1\t0.5\tTrue\n08\tnan\t\t\tFalse\n")
    columns = {"r2": {"type": "number?"}, "kept": {"type": "boolean"}, "symbol": {"type": "text"}}
    table = read(str(path), columns, {"age": "numeric"})
    assert table["sample"].tolist() == ["007", "08"]
    assert table["symbol"].tolist() == ["NA", "nan"]
    assert table["kept"].tolist() == [True, False]
    np.testing.assert_array_equal(table["age"], [1, np.nan])
    np.testing.assert_array_equal(table["r2"], [0.5, np.nan])


def test_the_last_cell_on_a_place_is_seen_and_empty_places_are_clear():
    corners = np.array([[0.0, 0.0], [1.0, 1.0]])
    image = paint(corners, np.array([1, 2]), pixels=50)
    assert set(np.unique(image)) == {0, 1, 2}
    assert image[-5:, :5].max() == 1, "UMAP 2 points up: the origin is at the bottom left"
    assert image[:5, -5:].max() == 2
    assert (image == 1).sum() == (image == 2).sum()
    many = paint(np.full((1000, 2), 0.5), np.repeat([1, 2], 500), pixels=50)
    assert len(np.unique(many)) == 2, "all cells on one place show one colour"


def test_a_level_that_is_drawn_often_does_not_hide_another():
    points = np.random.default_rng(0).uniform(size=(200_000, 2))
    image = paint(points, np.repeat([1, 2], 100_000), pixels=100)
    assert 0.45 < (image == 1).sum() / (image > 0).sum() < 0.55


def test_maps_are_indexed_pictures_with_counts(made):
    _, params, blocks, _, _ = made
    layer = unpack(blocks["map"])["layers"]
    names = [each["name"] for each in layer]
    assert names[:4] == ["cell type", "cluster, resolution 1.0", "donor", "pool"]
    assert {"age", "sex", "total_counts", "doublet_score"} <= set(names)
    types = layer[0]["levels"]
    assert {each["label"] for each in types} == {EVIL, "cell type 1", "cell type 2"}
    assert sum(each["cells"] for each in types) == unpack(blocks["map"])["cells"]
    picture = Image.open(io.BytesIO(base64.b64decode(blocks["map-0"])))
    assert picture.size == (params.pixels, params.pixels)
    assert picture.mode == "P"
    assert picture.info["transparency"] == 0


def test_colours_repeat_when_there_are_more_donors_than_colours():
    cells = pd.DataFrame({"UMAP1": np.arange(40.0), "UMAP2": 0.0, "donor": [f"d{i}" for i in range(40)]})
    [layer], _ = layers(cells, 200, [])
    assert layer["repeated"]
    assert layer["total"] == 40
    assert len(layer["levels"]) == 30


def test_the_page_has_the_colours_of_the_figures(made):
    cells = pd.DataFrame({"UMAP1": np.arange(20.0), "UMAP2": 0.0, "type": [f"t{i:02d}" for i in range(20)]})
    [layer], [image] = layers(cells, 200, [])
    painted = Image.open(io.BytesIO(base64.b64decode(image))).getpalette()
    page = unpack(made[2]["meta"])["colours"]
    for i in (0, 8, 19):
        expected = "#" + "".join(f"{round(255 * part):02x}" for part in colour(i))
        assert layer["levels"][i]["colour"] == expected
        assert page[i] == expected
        assert "#" + bytes(painted[3 * (i + 1) : 3 * (i + 2)]).hex() == expected


def test_the_page_has_no_second_list_of_colours():
    parts = [*FOLDER.glob("*.js"), *FOLDER.parent.glob("*.py")]
    for path in parts:
        assert not re.search(r"#[\dA-Fa-f]{6}\W+#[\dA-Fa-f]{6}", path.read_text(encoding="utf-8")), path.name


def test_histograms_count_every_cell_once_and_show_the_limits(made):
    paths, *_ = made
    cells = pd.read_parquet(paths.files[0])
    limits = pd.read_csv(paths.limits[0], sep="\t")
    found = {
        each["metric"]: each for each in histograms(cells, limits, pd.read_csv(paths.doublets[0], sep="\t"))
    }
    for each in found.values():
        assert sum(map(sum, each["counts"].values())) == len(cells)
    by_name = {limit["name"]: limit for limit in found["total_counts"]["limits"]}
    assert by_name["min_counts"] == {
        "name": "min_counts",
        "low": 100,
        "median": 100,
        "high": 100,
        "groups": 12,
    }
    assert by_name["mad_low_counts"] == {
        "name": "mad_low_counts",
        "low": 200,
        "median": 250,
        "high": 300,
        "groups": 12,
    }
    [threshold] = found["doublet_score"]["limits"]
    assert threshold["groups"] == 11, "a group that was not scored has no threshold"


def test_dropping_that_follows_a_covariate_is_seen_and_other_dropping_is_not():
    samples = pd.DataFrame(
        {"sample": [f"{i:02d}" for i in range(20)], "donor": "d", "cells": 10, "kept": True}
    )
    samples = samples.assign(reason="", age=np.arange(20.0), sex=["f", "m"] * 10)
    kept = [[k >= i // 2 for k in range(10)] for i in range(20)]  # older samples keep fewer
    cells = pd.DataFrame({"sample": np.repeat(samples["sample"], 10), "kept": np.concatenate(kept)})
    table = kept_by_sample(cells.assign(step=np.where(cells["kept"], "", "qc")), samples)
    assert table["kept"].tolist() == [10 - i // 2 for i in range(20)]
    age, sex = dependence(table, {"age": "numeric", "sex": "categorical"})
    assert age["statistic"] < -0.99
    assert age["pvalue"] < 1e-6
    assert sex["pvalue"] > 0.3
    assert sex["levels"] == [("f", 10, pytest.approx(0.55)), ("m", 10, pytest.approx(0.55))]


def test_nothing_is_said_about_dependence_without_variation():
    table = pd.DataFrame({"share": [1.0] * 5, "age": np.arange(5.0), "sex": ["f"] * 5})
    for row in dependence(table, {"age": "numeric", "sex": "categorical"}):
        assert row["pvalue"] is None


def test_losses_and_strata_add_up(made):
    _, _, blocks, words, _ = made
    loss = words["cells"]["losses"]
    assert loss["cells"] == SIZES["cells"]
    assert loss["cells"] - sum(row["cells"] for row in loss["lost"]) == loss["kept"]
    [stratum] = unpack(blocks["cells"])["strata"]
    for i, level in enumerate(stratum["levels"]):
        assert sum(counts[i] for counts in stratum["steps"].values()) == level["input"]


def test_losses_by_hand():
    rows = [("input", "", "all", "all", 10, 3, 0), ("qc", "max_pct_mt", "all", "all", 4, 2, 1)]
    rows += [
        ("kept", "", "all", "all", 6, 2, 0),
        ("input", "", "sex", "", 10, 3, 0),
        ("kept", "", "sex", "", 6, 2, 0),
    ]
    table = pd.DataFrame(
        rows, columns=["step", "reason", "stratum", "level", "cells", "samples", "samples_lost"]
    )
    assert losses(table) == {
        "cells": 10, "kept": 6, "samples": 3, "samples_kept": 2,
        "lost": [{"step": "qc", "reason": "max_pct_mt", "cells": 4, "samples_lost": 1}],
    }  # fmt: skip
    [sex] = strata(table)
    assert sex["levels"] == [{"level": "unknown", "input": 10, "kept": 6}]
    assert sex["lowest"][1] == 60


def test_genes_are_in_the_order_of_p_and_all_of_them_are_there(made):
    _, _, blocks, _, _ = made
    genes, first = unpack(blocks["genes"]), unpack(blocks["de-0-0"])
    assert len(first["gene"]) == SIZES["genes"]
    assert genes["symbol"][first["gene"][0]] == PLANTED
    assert (first["lfc"][0], first["p"][0]) == (1.25, 1e-40)
    present = [p for p in first["p"] if p is not None]
    assert present == sorted(present)
    assert first["p"][-1] is None, "genes without p-value come last"
    assert sum(first["histogram"]) == SIZES["genes"] - 1


def test_a_joint_test_has_a_range_and_no_standard_error():
    table = pd.DataFrame(
        {"gene_id": ["a"], "log2Range": [2.0], "pvalue": [0.1], "padj": [0.1], "baseMean": [1.0]}
    )
    made = effects(table.assign(log2FoldChange=np.nan, lfcSE=np.nan), {"a": 5}, joint=True)
    assert (made["gene"], made["lfc"], made["se"]) == ([5], [2], None)


def test_values_in_samples_are_those_of_the_first_genes(made):
    paths, params, blocks, _, _ = made
    first, genes = unpack(blocks["samples-0-0"]), unpack(blocks["genes"])
    assert len(first["genes"]) == params.genes
    assert genes["symbol"][first["genes"][0]] == PLANTED
    assert first["samples"][0] == "000"
    assert first["counts"][0][0] == 7
    assert first["factors"] == [2] * SIZES["samples"]
    [sums] = [path for path in paths.files if path.endswith("h5ad")]
    table = pd.DataFrame(
        {"gene_id": ["ENSG00000000059"], "symbol": "x", "pvalue": 0.1, "cell_type": "type_0"}
    )
    used = pd.DataFrame(
        {"cell_type": "type_0", "sample": ["001", "000"], "used": [False, True], "size_factor": 1.0}
    )
    found = donor_values(sums, {"c": table}, {"c": used}, genes=5)["c"]["type_0"]
    assert (found["samples"], found["counts"]) == (["000"], [[7]])


def test_gene_sets_that_are_cut_are_counted(made):
    _, params, blocks, *_ = made
    sets = unpack(blocks["sets-0-1"])
    assert sets["all"] == SIZES["terms"]
    assert len(sets["term"]) == max(params.terms, 1)
    assert sets["fdr"] == sorted(sets["fdr"])


def test_significant_sets_are_not_cut_before_ten_times_as_many():
    table = pd.DataFrame({"term": [f"t{i}" for i in range(100)], "nes": 1.0, "pvalue": 0.0, "fdr": 0.01})
    table = table.assign(collection="c", size=1, matched=1, leading_edge="")
    assert len(pathways(table, terms=2, fdr=0.05)[0]["term"]) == 20
    assert len(pathways(table, terms=60, fdr=0.05)[0]["term"]) == 100
    assert len(pathways(table.assign(fdr=0.5), terms=2, fdr=0.05)[0]["term"]) == 2


def test_the_strongest_set_stands_for_its_group_and_is_significant():
    rows = [
        ("weak", 3.0, 0.2, True),
        ("member", 2.9, 0.001, False),
        ("first", 2.5, 0.001, True),
        ("next", 2.6, 0.01, True),
    ]
    table = pd.DataFrame(rows, columns=["term", "nes", "fdr", "representative"])
    best = strongest(table, 0.05)
    assert best["up"]["term"] == "first"
    assert best["down"] is None


def test_a_heatmap_tells_untested_from_no_effect():
    genes = pd.DataFrame(
        {"gene_id": ["a", "b", "c"], "symbol": ["S", "S", "T"], "pattern": ["shared", "single", "none"]}
    )
    effects = pd.DataFrame(
        {"gene_id": ["a", "a", "b"], "label": ["x", "y", "x"], "log2FoldChange": [1.0, 0.0, -1.0]}
    )
    made = heatmap(effects.assign(pvalue=0.1, padj_all=0.01), genes, number=5, joint=False)
    assert made["genes"] == ["S (a)", "S (b)"]
    assert made["values"] == [[1, 0], [-1, None]]
    assert heatmap(effects, genes.assign(pattern="none"), number=5, joint=False) is None


def test_costs_are_summed_per_rule_and_the_report_itself_is_left_out(tmp_path):
    base = {"startup_s": 1.0, "cpu_time_s": 2.0, "mem_mb_requested": 100, "attempt": 1, "status": "ok"}
    for name, task, wall, peak in (("a", "qc", 3.0, 50), ("b", "qc", 5.0, 70), ("c", "report", 9.0, 10)):
        record = base | {"task_name": task, "wall_time_s": wall, "peak_rss_mb": peak}
        (tmp_path / f"{name}.perf.json").write_text(json.dumps(record))
    [row] = costs(tmp_path)
    assert (row["task_name"], row["jobs"], row["total_s"], row["longest_s"], row["peak_mb"]) == (
        "qc",
        2,
        10,
        6,
        70,
    )
    (tmp_path / "a.failures.jsonl").write_text('{"timestamp": "1"}\n{"timestamp": "2"}\n{"cut')
    assert [each["timestamp"] for each in failures(tmp_path)] == ["2", "1"]


def test_labels_with_markup_are_shown_and_not_run(made):
    _, _, blocks, _, page = made
    elements = Elements(page)
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == len(blocks) + 3, "one per block, plotly's block, DataTables and our own"
    assert "img" not in tags
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert EVIL not in page
    assert EVIL_GENE not in page
    assert "&lt;script&gt;document.title=&#34;broken&#34;&lt;/script&gt; &amp; &#34;T&#34; cell&#39;s" in page
    assert "<title>Simulated &lt;cohort&gt;</title>" in page


def test_the_page_allows_its_own_scripts_only_and_names_no_address(made):
    *_, page = made
    elements = Elements(page)
    [policy] = [a["content"] for tag, a in elements.found if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    own = [
        text
        for (tag, a), text in zip(
            [e for e in elements.found if e[0] == "script"], elements.scripts, strict=True
        )
        if not a
    ]
    assert len(own) == 2
    for text in own:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    for _, attributes in elements.found:
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", attributes.get(name, "")), attributes


def test_every_figure_has_a_drawing_and_every_drawing_a_place():
    scripts = "".join((FOLDER / name).read_text() for name in SCRIPTS)
    drawings = set(re.findall(r"^figures\.(\w+) =", scripts, flags=re.MULTILINE))
    places = set(re.findall(r'figure\("(\w+)"', (FOLDER / "page.html.j2").read_text()))
    assert drawings == places


def test_an_edit_to_any_part_of_the_page_draws_it_again():
    assert "for name in PAGE_FILES" in (ROOT / "rules/report.smk").read_text(encoding="utf-8")
    parts = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert set(PAGE_FILES) == parts - {"vendor/README.md", "vendor/dataTables.LICENSE.txt"}


def test_what_is_vendored_is_what_its_page_says():
    said = (FOLDER / "vendor/README.md").read_text()
    digest = hashlib.sha256((FOLDER / "vendor/dataTables.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in said
    assert "DataTables 3.1.5" in (FOLDER / "vendor/dataTables.min.js").read_text()[:100]


def test_methods_say_the_settings(made):
    *_, words, page = made
    assert "fewer than 50 genes or 100 counts" in page
    assert "1,000 permutations" in page
    words["config"]["gsea"]["permutation_num"] = 7777
    assert "7,777 permutations" in report.render(FOLDER, {}, words)
    words["config"]["gsea"]["permutation_num"] = 1000


def test_a_run_without_contrast_and_prediction_has_a_page_too(tmp_path):
    paths, params = write(tmp_path / "in", **SIZES)
    rest, kept, sources = iter(paths.files), [], []
    for place in params.files:
        mine = [next(rest) for _ in range(place["parts"])]
        if place["kind"] in COHORT:
            kept.append(place)
            sources += mine
    paths.files, params.files = sources, kept
    blocks, words = report.gather(paths, params, tmp_path / "none")
    page = report.render(FOLDER, blocks, words)
    assert "de-0-0" not in blocks
    assert 'id="genes"' not in page
    assert 'id="prediction"' not in page
    assert 'id="map"' in page


def test_what_is_seen_of_samples_before_any_test_is_on_the_page(made):
    _, _, blocks, _, page = made
    section = page.split('<section id="samples"')[1].split("</section>")[0]
    assert page.index('id="samples"') < page.index('id="genes"')
    assert "5 agree" not in section
    assert "6 agree, 1 contradict, 5 undecided" in section
    assert "000 (stated female, shows male)" in section
    assert "000 and 001 (z 12.5)" in section
    assert "No donor has two samples, so whether this cohort tells persons apart cannot be seen" in section
    assert "000 (type_0)" in section
    table = unpack(blocks["samples"])
    assert table["covariate_age"] == unpack(blocks["meta"])["samples"]["age"]
    assert table["sample"][0] == "000"
    assert base64.b64decode(blocks["samples-sex"]).startswith(b"\x89PNG")
    assert 'data-picture="samples-sex"' in section
    assert 'data-picture="samples-pairs"' not in section


def test_a_cohort_that_tells_no_persons_apart_says_so(made):
    _, _, _, words, _ = made
    samples = words["samples"]
    for control, sentence in (
        ("passes", "so this cohort tells persons apart"),
        ("fails", "does not tell persons apart by expression"),
    ):
        page = report.render(FOLDER, {}, words | {"samples": samples | {"control": control}})
        assert sentence in page
    page = report.render(FOLDER, {}, words | {"samples": samples | {"sex": samples["sex"] | {"no_genes": 3}}})
    assert "Not checked: the cohort lacks XIST" in page


def box(page):
    """The text of the box of warnings, up to the next section."""
    return page.split('<section id="warnings"')[1].split("</section>")[0]


def test_the_page_begins_with_the_warnings_and_lists_accepted_ones_apart(made):
    page = made[4]
    assert page.index('<section id="warnings"') < page.index('<section id="summary"')
    told, accepted = box(page).split("<details>")
    assert ">2 warnings</h2>" in told
    assert "age is missing where it is 90+" in told
    assert "<code>load.covariates</code>" in told
    assert re.findall(r'<th scope="row"><code>(\w+)</code></th><td>(\w+)</td>', told) == [
        ("values_not_parsed", "load"),
        ("genes_not_converged", "differential"),
    ]
    assert re.findall(r'<td class="n">(\d*)</td>', told) == ["12", "3"]
    assert "1 accepted by the config" in accepted
    assert "pattern_matches_nothing" in accepted
    assert '<td class="n"></td>' in accepted  # without a number


def test_a_label_in_a_warning_is_escaped(made):
    assert "age, &lt;script&gt;document.title=" in box(made[4])


def test_a_page_without_warnings_says_so(made):
    _, _, blocks, words, _ = made
    page = report.render(FOLDER, blocks, words | {"warnings": []})
    assert ">No warnings</h2>" in box(page)
    assert "<table" not in box(page)
