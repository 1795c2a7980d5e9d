"""Synthesis on small tables whose answers are known by hand."""

import numpy as np
import pandas as pd
import pytest

from donors.synthesis import draw, join, summarise

COLUMNS = ["gene_id", "symbol", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]


def table(**genes):
    """Gene -> (log2 fold change, p-value); the standard error is 0.1."""
    rows = [(gene, gene.upper(), lfc, 0.1, lfc / 0.1, p, p) for gene, (lfc, p) in genes.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def tables():
    return {
        ("t", "T cell"): table(
            both=(1, 1e-8), contrary=(1, 1e-7), only=(1, 1e-6), nearly=(1, 1e-6), quiet=(0, 0.9)
        ),
        ("b", "B cell"): table(
            both=(2, 1e-9), contrary=(-1, 1e-7), only=(0, 0.8), nearly=(0.3, 0.1), alone=(-1, 1e-5)
        ),
        ("u", "untested"): table(),
    }


def test_each_pattern_is_what_its_rule_says(tables):
    genes = summarise(join(tables), fdr=0.05, specific_pvalue=0.2).set_index("gene_id")
    assert genes["pattern"].to_dict() == {
        "both": "shared",
        "contrary": "opposite",
        "only": "specific",
        "nearly": "single",
        "alone": "single",
        "quiet": "none",
    }
    assert genes.loc["both", "cell_types"] == "B cell;T cell"
    assert genes.loc["contrary", ["up", "down", "significant", "tested"]].tolist() == [1, 1, 2, 2]
    assert list(genes.index[:2]) == ["both", "contrary"]


def test_the_correction_over_all_tests_is_benjamini_hochberg_by_hand(tables):
    effects = join(tables)
    p = np.sort(effects["pvalue"].to_numpy())
    by_hand = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    np.testing.assert_allclose(np.sort(effects["padj_all"]), np.minimum(by_hand, 1), rtol=1e-12)


def test_a_missing_pvalue_is_no_test(tables):
    outlier = tables["b", "B cell"].assign(pvalue=lambda t: t["pvalue"].where(t["gene_id"] != "only"))
    effects = join(tables | {("b", "B cell"): outlier})
    assert effects["padj_all"].isna().sum() == 1
    genes = summarise(effects, fdr=0.05, specific_pvalue=0.2).set_index("gene_id")
    assert genes.loc["only", ["tested", "pattern"]].tolist() == [1, "single"]


def test_nothing_tested_gives_empty_tables_and_a_figure_that_says_so():
    effects = join({("t", "T cell"): table()})
    genes = summarise(effects, fdr=0.05, specific_pvalue=0.2)
    assert len(effects) == len(genes) == 0
    empty = draw(effects, genes, fdr=0.05, heatmap_genes=10, effect="per 10 of age")
    assert "no gene" in empty.texts[0].get_text()


def test_rows_carry_the_id_and_the_label_of_their_cell_type(tables):
    effects = join(tables)
    assert effects[["cell_type", "label"]].drop_duplicates().to_numpy().tolist() == [
        ["t", "T cell"],
        ["b", "B cell"],
    ]
    assert len(effects) == 10


def test_the_heatmap_shows_the_effects_of_the_first_genes(tables):
    effects = join(tables)
    genes = summarise(effects, fdr=0.05, specific_pvalue=0.2)
    axes = draw(effects, genes, fdr=0.05, heatmap_genes=3, effect="per 10 of age").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["BOTH", "CONTRARY", "ALONE"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["T cell", "B cell"]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown, [[1, 2], [1, -1], [np.nan, -1]])
    dots = np.transpose(axes.lines[0].get_data()).tolist()
    assert dots == [[0, 0], [1, 0], [0, 1], [1, 1], [1, 2]]


def test_a_contrast_without_signs_has_shared_genes_and_a_heatmap_of_p_values(tables):
    joint = {
        name: one.assign(log2FoldChange=np.nan, lfcSE=np.nan, stat=one["stat"] ** 2)
        for name, one in tables.items()
    }
    effects = join(joint)
    genes = summarise(effects, fdr=0.05, specific_pvalue=0.2).set_index("gene_id")
    assert genes["pattern"].to_dict() == {
        "both": "shared",
        "contrary": "shared",
        "only": "specific",
        "nearly": "single",
        "alone": "single",
        "quiet": "none",
    }
    assert (genes[["up", "down"]] == 0).all(axis=None)
    assert genes.loc["both", "significant"] == 2
    figure = draw(effects, genes.reset_index(), fdr=0.05, heatmap_genes=1, effect="")
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[8, 9]])
    assert figure.axes[1].get_ylabel() == "-log10 p"


def test_many_long_labels_fit(tables):
    one = tables["t", "T cell"]
    wide = {(str(n), f"CD16-negative, CD56-bright natural killer cell number {n}"): one for n in range(29)}
    effects = join(wide)
    genes = summarise(effects, fdr=0.05, specific_pvalue=0.2)
    figure = draw(effects, genes, fdr=0.05, heatmap_genes=4, effect="per 10 of age")
    figure.draw_without_rendering()
    labels = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert min(label.x0 for label in labels) >= 0
    assert min(label.y0 for label in labels) >= 0
