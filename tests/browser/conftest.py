"""Pages drawn from simulated tables, and the system's Chromium without a window."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import sync_playwright

from report import report
from simulated_tables import write

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = Path(__file__).parent / "screenshots"  # kept, to be looked at; not in git


def draw(folder, **sizes):
    """A page in a file, from simulated tables."""
    paths, params = write(folder / "in", **sizes)
    (folder / "benchmarks").mkdir()
    blocks, words = report.gather(paths, params, folder / "benchmarks")
    page = folder / "report.html"
    page.write_text(report.render(ROOT / "scripts/report/page", blocks, words))
    return page


@pytest.fixture(scope="session")
def small_page(tmp_path_factory):
    """Three types, 300 genes."""
    return draw(tmp_path_factory.mktemp("small"), types=3, genes=300, samples=40, cells=3000, terms=60)


@pytest.fixture(scope="session")
def large_page(tmp_path_factory):
    """The size of OneK1K: 20 types x 10,000 genes, 981 donors, 1.25 million cells."""
    folder = tmp_path_factory.mktemp("large")
    return draw(folder, types=20, genes=10_000, samples=981, cells=1_250_000, terms=500)


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium; make test-browser installs it."""
    program = shutil.which("chromium")
    if not program:
        pytest.fail("no chromium on the path: run make test-browser, which installs it on Debian")
    flags = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=flags)
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens a file at a width and a colour scheme; returns the page, and what it said and asked for."""
    contexts = []

    def open_page(file, *, width=1200, scheme="light"):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, accept_downloads=True)
        contexts.append(context)
        context.set_default_timeout(120_000)  # the machine may be busy
        page, heard = context.new_page(), SimpleNamespace(console=[], errors=[], requests=[])
        page.on("console", lambda message: heard.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.errors.append(str(error)))
        page.on("request", lambda request: heard.requests.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page, heard

    yield open_page
    for context in contexts:
        context.close()


def scroll_through(page):
    """Bring every figure into view once, so that all are drawn."""
    for figure in page.query_selector_all("[data-figure]"):
        figure.scroll_into_view_if_needed()
        page.wait_for_timeout(50)
    page.wait_for_function(
        "[...document.querySelectorAll('[data-figure]')].every(f => f.dataset.ready || f.matches('.none'))",
        timeout=120_000,
    )


def keep(page, name):
    """A screenshot of each section, without the bar that stays on top."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.add_style_tag(content="header nav, .choices.sticky { position: static !important; }")
    for section in page.query_selector_all("section"):
        section.screenshot(path=SCREENSHOTS / f"{name}_{section.get_attribute('id')}.png")


@pytest.fixture
def look():
    """The two helpers above, for tests."""
    return SimpleNamespace(scroll_through=scroll_through, keep=keep)
