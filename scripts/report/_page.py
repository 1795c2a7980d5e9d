"""The page as one file: which files of page/ are in it, and how they are put together.

The rule imports this module too: it needs nothing but Python.
"""

import base64
import gzip
import hashlib
import json
from pathlib import Path

SCRIPTS = [  # one script, in this order
    "core.js",
    "cells.js",
    "map.js",
    "samples.js",
    "genes.js",
    "across.js",
    "prediction.js",
    "stability.js",
    "start.js",
]
LIBRARY = "vendor/dataTables.min.js"
STYLE = "style.css"
TEMPLATES = ["page.html.j2", "parts.html.j2", "samples.html.j2", "methods.html.j2"]
PAGE_FILES = [*TEMPLATES, STYLE, *SCRIPTS, LIBRARY]  # the rule draws the page again when one of them changes
FILTERS = {  # of the templates; a missing value is a dash
    "count": lambda value: "\u2013" if value is None else f"{round(value):,}",
    "fixed": lambda value, digits: "\u2013" if value is None else f"{value:.{digits}f}",
    "short": lambda value: "\u2013" if value is None else f"{value:.3g}",
    "pretty": lambda value: json.dumps(value, indent=1),
}


def squeeze(data: bytes) -> str:
    """Base64 of gzip: what the page unpacks by DecompressionStream. The alphabet holds no markup."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def digest(script: str) -> str:
    """What the page's policy names a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def render(folder: Path, blocks: dict[str, str], words: dict) -> str:
    """The page. folder: templates and scripts; blocks: name -> squeezed data; words: for the template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    plotly = get_plotlyjs()
    tables = (folder / LIBRARY).read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    page = environment.get_template(TEMPLATES[0])
    return page.render(
        blocks=blocks | {"plotly": squeeze(plotly.encode())},
        style=(folder / STYLE).read_text(encoding="utf-8"),
        scripts=[tables, script],
        policy=" ".join(f"'{digest(text)}'" for text in (plotly, tables, script)),
        **words,
    )
