"""The main of a step in this process, as its rule runs it, without Snakemake."""

import contextlib
import io
import runpy
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parent.parent


class Named(list):
    """Values that have names, as Snakemake gives inputs, outputs and params to a script."""

    def __init__(self, **values):
        super().__init__(
            path for value in values.values() for path in (value if isinstance(value, list) else [value])
        )
        self.values = values

    def __getattr__(self, name):
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name):
        return self.values[name] if isinstance(name, str) else super().__getitem__(name)

    def keys(self):
        return self.values.keys()

    def items(self):
        return self.values.items()


def run_main(script: str, folder: Path, *, inputs: dict, outputs: dict, params: dict) -> str:
    """Run scripts/<script>; what it prints, of which the last line is the error of a job that failed."""
    log, printed = folder / f"logs/{Path(script).stem}.log", io.StringIO()
    snakemake = SimpleNamespace(
        rule=Path(script).stem,
        threads=1,
        log=[str(log)],
        wildcards={},
        resources={"attempt": 1},
        input=Named(**inputs),
        output=Named(**outputs),
        params=Named(**params),
    )
    # pytest has streams of its own, which do not follow the log
    redirected = contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed)
    with redirected[0], redirected[1], contextlib.suppress(SystemExit):
        runpy.run_path(
            str(ROOT / "scripts" / script), init_globals={"snakemake": snakemake}, run_name="__main__"
        )
    return log.read_text(encoding="utf-8") + printed.getvalue()
