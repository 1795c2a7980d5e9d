"""Digest of the modules that a script imports; as a param of its rule it reruns the step after an edit.

Snakemake looks at the script alone. For `from files import read_obs`, the module that has `read_obs` counts.
"""

import ast
import hashlib
from collections.abc import Callable

OFFERING = ("job", "files")  # parts whose names other parts import
PROGRAMS = ("verify", "_contents", "_facts")  # of scripts/publish, which also run without the rest


class Digests:
    """Digests for one workflow, each module read once.

    read: gives the text of a file by its path in scripts/, like `cells/qc.py`. Every file that a script needs
    is asked for, which brings it here where the workflow comes from a git host.
    """

    def __init__(self, read: Callable[[str], str]):
        self._read, self._imports, self._texts = read, {}, {}

    def digest(self, script: str) -> str:
        """Of the modules that a script imports, directly or not: 12 hex digits. script: like `cells/qc`."""
        own = script.replace("/", ".")
        pending, modules = [own], set()
        while pending:
            new = self._modules(pending.pop()) - modules
            modules |= new
            pending += new
        texts = [self._text(module) for module in sorted(modules - {own})]
        return hashlib.sha256("".join(texts).encode()).hexdigest()[:12]

    def _modules(self, module: str) -> set[str]:
        """Modules of scripts/ that a module, like `cells.qc`, imports itself."""
        part, modules = module.split(".")[0], set()
        self._imported(part)  # with the module, Python reads its part's __init__
        for source, names in self._imported(module):
            if source in OFFERING:
                homes = {name: home for home, offered in self._imported(source) for name in offered}
                for home in homes.values():
                    self._text(home)
                modules |= {homes[name] for name in names}
            elif source == part:
                modules |= {f"{part}.{name}" for name in names}
            elif source.startswith(f"{part}."):
                modules.add(source)
            elif source in PROGRAMS:
                modules.add(f"{part}.{source}")
        return modules

    def _imported(self, module: str) -> list[tuple[str, list[str]]]:
        """(source, names) of each `from source import names` of a module."""
        if module not in self._imports:
            nodes = ast.walk(ast.parse(self._text(module)))
            self._imports[module] = [
                (node.module, [alias.name for alias in node.names])
                for node in nodes
                if isinstance(node, ast.ImportFrom)
            ]
        return self._imports[module]

    def _text(self, module: str) -> str:
        """Text of a module; of a part, that of its __init__."""
        if module not in self._texts:
            path = module.replace(".", "/")
            self._texts[module] = self._read(f"{path}.py" if "." in module else f"{path}/__init__.py")
        return self._texts[module]
