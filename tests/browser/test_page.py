"""The page in a real browser: it works, asks for nothing, fits, and shows data as text."""

import io
import time

import pytest
from PIL import Image

from files import colour
from simulated_tables import EVIL, EVIL_GENE, PLANTED

ROWS = "#table-genes tbody tr"
MISSING = "\u2013"


def cells(page, column):
    """Texts of one column of the gene table on its present page; columns count from 1."""
    return [cell.inner_text() for cell in page.query_selector_all(f"{ROWS} td:nth-child({column})")]


def numbers(page, column):
    return [float(text) for text in cells(page, column) if text != MISSING]


def sorted_numbers(page, column, direction):
    """Numbers of a column, once the table says that it is sorted by it: it sorts after the click is over."""
    page.wait_for_selector(f"#table-genes thead th:nth-child({column})[aria-sort={direction}]")
    return numbers(page, column)


def show(page, name):
    """Scroll a figure into view and wait until it is drawn."""
    page.locator(f"[data-figure='{name}']").scroll_into_view_if_needed()
    page.wait_for_selector(f"[data-figure='{name}'][data-ready]")


def search(page, what):
    page.fill("#card-genes .dt-search input", what)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1200, "light"), (1200, "dark"), (400, "light"), (400, "dark")]
)
def test_every_part_is_drawn_without_a_complaint_or_a_request_and_fits(
    small_page, opened, look, width, scheme
):
    page, heard = opened(small_page, width=width, scheme=scheme)
    look.scroll_through(page)
    assert heard.errors == []
    assert heard.console == []
    assert [url for url in heard.requests if not url.startswith(("data:", "blob:"))] == [small_page.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.locator("#trouble").is_hidden()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 23, 29)"}[scheme]
    look.keep(page, f"small_{width}_{scheme}")


def test_text_can_be_read_in_both_themes(small_page, opened):
    """Contrast of WCAG 2.1 (relative luminances), 4.5 for text, for every pair of ink and ground in use."""
    for scheme in ("light", "dark"):
        page, _ = opened(small_page, scheme=scheme)
        colour = "n => getComputedStyle(document.documentElement).getPropertyValue(n).trim()"
        for ink in ("--ink", "--soft", "--link", "--up", "--down", "--warn"):
            for ground in ("--paper", "--card"):
                pair = page.evaluate(colour, ink), page.evaluate(colour, ground)
                assert contrast(*pair) >= 4.5, (scheme, ink, ground)


def contrast(first, second):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(first), luminance(second)])
    return (light + 0.05) / (dark + 0.05)


def test_levels_have_the_colours_of_the_figures(small_page, opened):
    for scheme in ("light", "dark"):
        page, _ = opened(small_page, scheme=scheme)
        for i in (8, 19):
            expected = [round(255 * part) for part in colour(i)]
            assert list(bytes.fromhex(page.evaluate(f"colourOf({i})")[1:])) == expected, scheme
    show(page, "kept")
    drawn = page.evaluate("document.querySelector(\"[data-figure='kept']\").data[0].marker.color")
    assert list(bytes.fromhex(drawn[1:])) == [round(255 * part) for part in colour(0)]


def test_the_theme_can_be_chosen(small_page, opened):
    page, _ = opened(small_page, scheme="dark")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_labels_are_text_and_nothing_in_them_runs(small_page, opened, look):
    page, heard = opened(small_page)
    look.scroll_through(page)
    assert page.title() == "Simulated <cohort>"
    assert EVIL in page.inner_text("#summary")
    assert page.inner_text("#choose-type option:first-child") == EVIL
    search(page, "<img")
    assert cells(page, 1) == [EVIL_GENE]
    assert page.query_selector_all("#table-genes img") == []
    page.click(f"{ROWS} button")
    page.wait_for_function("document.querySelector('#figure-gene h4').textContent.includes('<img')")
    own = "[src^='data:image/png']"  # the pictures of samples
    assert page.query_selector_all(f"figure img:not({own})") == []
    assert heard.errors == []


def test_search_finds_the_planted_gene_by_symbol_and_by_id(small_page, opened):
    page, _ = opened(small_page)
    for what in (PLANTED, "ENSG00000000299"):
        search(page, what)
        assert cells(page, 1) == [PLANTED]
        assert cells(page, 2) == ["ENSG00000000299"]
        assert cells(page, 3) == ["1.25"]
    search(page, "no such gene")
    assert "nothing found" in page.inner_text("#table-genes tbody")
    search(page, "")
    assert "of 300" in page.inner_text("#card-genes .dt-info")


def test_sorting_sorts_numbers_as_numbers(small_page, opened):
    page, _ = opened(small_page)
    for column in (3, 6, 7, 8):
        page.click(f"#table-genes thead th:nth-child({column})")
        up = sorted_numbers(page, column, "ascending")
        page.click(f"#table-genes thead th:nth-child({column})")
        down = sorted_numbers(page, column, "descending")
        assert up == sorted(up)
        assert down == sorted(down, reverse=True)
        assert up != down


def test_a_table_is_sorted_by_keyboard(small_page, opened):
    page, _ = opened(small_page)
    page.focus("#table-genes thead th:nth-child(3) [role=button]")
    page.keyboard.press("Enter")
    up = sorted_numbers(page, 3, "ascending")
    assert up == sorted(up)
    assert up[0] < 0


def click_lonely_point(page):
    """Click the point of the volcano that is farthest from all others, not among the first 20 genes."""
    x, y, row = page.evaluate(
        """() => {
            const plot = document.querySelector('[data-figure=volcano]'), { xaxis, yaxis } = plot._fullLayout;
            const points = plot.data.filter((trace) => trace.customdata).flatMap((trace) =>
                trace.customdata.map((row, i) => [xaxis.c2p(trace.x[i]), yaxis.c2p(trace.y[i]), row]));
            const distance = ([x, y, row]) => Math.min(...points.filter((p) => p[2] !== row).map((p) => Math.hypot(p[0] - x, p[1] - y)));
            const found = points.filter((p) => p[2] >= 20 && p[2] < 400).sort((a, b) => distance(b) - distance(a))[0];
            const box = plot.querySelector('.nsewdrag').getBoundingClientRect();
            return [box.left + found[0], box.top + found[1], found[2]];
        }"""  # noqa: E501
    )
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    page.mouse.click(x, y)
    return row


def test_a_click_on_the_volcano_selects_the_row_on_its_page(small_page, opened):
    page, _ = opened(small_page)
    show(page, "volcano")
    search(page, PLANTED)  # hides the row that the click will select
    row = click_lonely_point(page)
    page.wait_for_selector(f"{ROWS}.chosen")
    assert page.locator(f"{ROWS}.chosen").count() == 1
    assert page.inner_text("#card-genes .dt-paging .current") == str(row // 10 + 1)
    name = page.inner_text(f"{ROWS}.chosen td:first-child")
    page.wait_for_function(
        "n => document.querySelector('#figure-gene h4').textContent.startsWith(n)", arg=name
    )


def test_a_row_marks_its_gene_in_the_figures_by_mouse_and_by_keyboard(small_page, opened):
    page, _ = opened(small_page)
    show(page, "volcano")
    show(page, "gene")
    ring = "document.querySelector('[data-figure=volcano]').data.at(-1)"
    search(page, PLANTED)
    page.focus(f"{ROWS} button.gene")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{ring}.marker?.symbol === 'circle-open'")
    assert page.evaluate(f"{ring}.x[0]") == 1.25
    assert PLANTED in page.inner_text("#figure-gene h4")
    page.wait_for_function("document.querySelector('[data-figure=gene]').data[0].x.length === 20")
    search(page, "")
    page.click(f"{ROWS}:nth-child(2) td:nth-child(4)")
    second = float(cells(page, 3)[1])
    page.wait_for_function(f"{ring}.x[0].toPrecision(3) == {second:.3g}")


def test_a_gene_whose_values_are_not_in_the_page_says_so(small_page, opened):
    page, _ = opened(small_page)
    show(page, "gene")
    page.click("#card-genes .dt-paging button.last")
    page.click(f"{ROWS}:last-child button")
    page.wait_for_selector("[data-figure=gene].none")
    assert "sums.h5ad" in page.inner_text("[data-figure=gene]")


def test_names_that_are_cut_alike_stay_apart(small_page, opened):
    """A heatmap with two rows of one name would show one of them only."""
    page, _ = opened(small_page, width=400)
    labels = [
        "central memory CD4-positive, alpha-beta T cell",
        "central memory CD8-positive, alpha-beta T cell",
    ]
    made = page.evaluate("labels => ticks([...labels, 'B cell', labels[0]])", labels)
    assert len(set(made)) == 4
    assert "CD4" in made[0]
    assert "CD8" in made[1]
    assert made[2] == "B cell"


def test_another_cell_type_changes_table_and_figures(small_page, opened):
    page, _ = opened(small_page)
    show(page, "volcano")
    before = cells(page, 3)
    page.click("#next")
    page.wait_for_function("document.querySelector('#type-status').textContent.startsWith('cell type 1')")
    page.wait_for_function(f"document.querySelector('{ROWS} td:nth-child(3)').innerText !== '{before[0]}'")
    assert page.input_value("#choose-type") == "1"
    page.select_option("#choose-type", "0")
    page.wait_for_function(f"document.querySelector('{ROWS} td').innerText === '{PLANTED}'")


def test_every_figure_is_saved_as_picture_and_its_numbers_as_table(small_page, opened, look):
    page, heard = opened(small_page, scheme="dark")
    look.scroll_through(page)
    for figure in page.query_selector_all("figure:not(:has(img))"):  # a picture is saved as every picture is
        name = figure.get_attribute("id").removeprefix("figure-")
        with page.expect_download() as saved:
            figure.query_selector("[data-png]").click()
        picture = Image.open(io.BytesIO(saved.value.path().read_bytes())).convert("RGB")
        assert saved.value.suggested_filename.endswith(".png")
        assert min(picture.size) >= 800, name
        assert picture.getpixel((2, 2)) == (255, 255, 255), "saved for paper, whatever the theme"
        assert len(picture.getcolors(10_000_000)) > 20, f"{name} is empty"
        with page.expect_download() as saved:
            figure.query_selector("[data-tsv]").click()
        lines = saved.value.path().read_text().splitlines()
        assert len(lines) > 1, name
        assert {line.count("\t") for line in lines} == {lines[0].count("\t")}, name
    assert heard.errors == []


def test_the_table_that_is_saved_holds_all_genes(small_page, opened):
    page, _ = opened(small_page)
    search(page, PLANTED)
    with page.expect_download() as saved:
        page.click("#card-genes [data-tsv]")
    lines = saved.value.path().read_text().splitlines()
    assert len(lines) == 301
    assert lines[1].split("\t")[:3] == [PLANTED, "ENSG00000000299", "1.25"]


def test_a_large_cohort_fits_and_opens_at_once(large_page, opened, look):
    size = large_page.stat().st_size / 1e6
    page, heard = opened(large_page)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        page.goto(large_page.as_uri())
        page.wait_for_selector("html[data-ready]")
        seconds.append(time.perf_counter() - start)
    print(f"\n{size:.1f} MB, ready after {min(seconds):.2f} s (of {', '.join(f'{s:.2f}' for s in seconds)})")
    assert size < 15
    assert min(seconds) < 10, "about a second on an idle machine"
    search(page, PLANTED)
    assert cells(page, 1) == [PLANTED]
    look.scroll_through(page)
    assert heard.errors == []
    assert [
        said for said in heard.console if said.startswith("error")
    ] == []  # software WebGL warns of its speed
    search(page, "")
    show(page, "volcano")
    row = click_lonely_point(page)
    page.wait_for_selector(f"{ROWS}.chosen")
    assert page.inner_text("#card-genes .dt-paging .current") == f"{row // 10 + 1:,}"
    look.keep(page, "large")
