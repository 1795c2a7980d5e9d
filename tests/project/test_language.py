"""Documents, messages and docstrings use plain English and the words of docs/glossary.md.

`python tests/project/test_language.py` lists every phrase that is still to be replaced in EVERYWHERE.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    "*.md",
    "docs/**/*.md",
    "workflow/RE*.md",
    "workflow/RU*.md",
    "workflow/captions/*.rst",
    "bench/*.md",
    "results/*.md",
    "tests/**/*.md",
]
EVERYWHERE = [
    *DOCUMENTS,
    "workflow/CONTRACT.md",
    "config/README.md",
    "scripts/**/*.py",
    "ops/**/*.py",
    "gates/**/*.py",
    "bench/**/*.py",
    "workflow/*.py",
]
# What the test reads. Set it to EVERYWHERE when that list has no phrases left.
CHECKED = [
    *DOCUMENTS,
    *("ops/**/*.py", "gates/**/*.py", "bench/**/*.py"),
    "scripts/**/*.py",
    "config/README.md",
    "workflow/*.py",
]

PHRASES = {  # pattern -> what to write
    r"(?<!there )\b(is|are|was|were) no (?!longer|more|less|fewer)": "is not a",
    r"\b(has|have|had) to be there\b": "is needed",
    r"\bthat (is|are) not there\b": "missing, does not exist",
    r"\bwhose\b": "of which, or two sentences",
    r"\bwhich of (these|those|them)\b": "which",
    r"\b(there|where|here)(of|in|by|to|upon|with)\b": "of it, in it",
    r"\b(hitherto|henceforth|thence|whence|whilst)\b": "until now, from now on, while",
    r"\banew\b": "again",
    r"\bseldom\b": "rarely",
    r"\bbut for\b": "except",
    r"\bof (yours|ours|mine)\b": "your, our",
    r"\bstands? (in|beside|behind|on)\b": "is in, is next to",
    r"\bcan stand\b": "can have",
    r"\bhangs? together\b": "is associated",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bsettle[sd]?\b": "decide, or wait",
    r"\b(is|are|was|be) told\b": "the message says, or is recognised",
    r"\bper \d+ (of )?age\b": "per 10 years",
    r"\b(must|need|may|can) not be had\b|\bcannot be had\b": "is not available",
}
WORDS = re.compile(r"^\|[^|]+\|[^|]+\|([^|]+)\|$", flags=re.M)  # last column of the glossary


def synonyms() -> dict[str, str]:
    """Pattern -> advice of the words that the glossary replaces."""
    rows = WORDS.findall((ROOT / "docs/glossary.md").read_text(encoding="utf-8"))
    words = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    return {rf"\b{re.escape(word)}\b": "a term of docs/glossary.md" for word in words}


def prose_of_markdown(text: str) -> list[tuple[int, str]]:
    """Line number and text of each line, without code, addresses and links' targets."""
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S)
    text = re.sub(r"^    .*$", "", text, flags=re.M)
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)|https?://\S+", "", text)
    return list(enumerate(text.splitlines(), start=1))


def prose_of_python(text: str) -> list[tuple[int, str]]:
    """First line number and text of each string of two words or more, with one space for white space.

    An expression in an f-string becomes "...", so that its neighbours stay one text.
    """
    nodes = list(ast.walk(ast.parse(text)))
    joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    pieces = {id(piece) for node in joined for piece in node.values}
    prose = []
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            words = "".join(piece.value if is_text(piece) else "..." for piece in node.values)
        elif is_text(node) and id(node) not in pieces:
            words = node.value
        else:
            continue
        words = " ".join(re.sub(r"`[^`]*`", "", words).split())
        prose += [(node.lineno, words)] if " " in words else []
    return prose


def is_text(node: ast.AST) -> bool:
    """Whether a node of a syntax tree is a string without expressions."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def find_phrases(path: Path) -> list[str]:
    """One line per forbidden phrase of a file: place, phrase and advice."""
    text = path.read_text(encoding="utf-8")
    prose = prose_of_python(text) if path.suffix == ".py" else prose_of_markdown(text)
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    hits = []
    for pattern, advice in (PHRASES | synonyms()).items():
        for line, words in prose:
            for match in re.finditer(pattern, words, flags=re.I):
                hits.append((line, f"{place}:{line}: '{match[0]}' -> {advice}"))
    return [hit for _, hit in sorted(hits)]


def files_of(patterns: list[str]) -> list[Path]:
    """The files of these patterns, each once, in the order of their names."""
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


@pytest.mark.parametrize("path", files_of(CHECKED), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_uses_plain_words(path):
    assert find_phrases(path) == []


@pytest.mark.parametrize("pattern", CHECKED)
def test_each_pattern_has_a_file(pattern):
    assert files_of([pattern])


def test_the_glossary_has_words_to_look_for():
    assert r"\bpooled\b" in synonyms()
    assert r"\bcelltype\b" in synonyms()


@pytest.mark.parametrize(
    ("name", "text", "phrases"),
    [
        ("a.md", "This is no formula.\n", ["is no "]),
        ("a.md", "There is no formula, and it is no longer there.\n", []),
        ("a.md", "`is no formula`\n\n```\nis no formula\n```\n\n    is no formula\n", []),
        ("a.md", "One\n\n```\ncode\n```\n\nPooled predictions of individuals\n", ["individuals", "Pooled"]),
        ("a.py", 'x = "Python and a compiler are all that has\\n to be there"\n', ["has to be there"]),
        ("a.py", 'raise ValueError(f"{x}: effects per 10 of age")\n', ["per 10 of age"]),
        ("a.py", "raise ValueError(f'{a!r} is no {b}')", ["is no "]),
        ("a.py", '"""Pool the cells\n\n    whose donor is missing."""\n', ["whose"]),
        ("a.py", "# a comment is no message\nanew = 'anew'\n", []),
    ],
)
def test_phrases_are_found_in_prose_and_not_in_code(tmp_path, name, text, phrases):
    (tmp_path / name).write_text(text, encoding="utf-8")
    hits = find_phrases(tmp_path / name)
    assert sorted(re.findall(r": '([^']*)'", "\n".join(hits))) == sorted(phrases)


if __name__ == "__main__":
    for path in files_of(EVERYWHERE):
        print(*find_phrases(path), sep="\n", end="\n" if find_phrases(path) else "")
