"""Print docs/warnings.md, every warning code, from scripts/job/_codes.py: `make warnings-page`."""

import sys
import textwrap

import _root  # noqa: F401 makes the parts in scripts/ importable
from _cohort import PREDICTED
from job import BY_STEP

INTRODUCTION = """# Warnings

Made from `scripts/job/_codes.py` by `make warnings-page`; edit the meanings there.

A warning is a fact that changes how a number is read and does not stop the run. It has a code. Warnings are

- the last lines on the terminal, above the failures if the run failed: about 20, some of each code;
- `results/run/warnings.tsv`, all of the jobs that the last run needed, whether they ran then or before;
- a box at the top of the page, and `warnings.tsv` of the release, each fact once.

Columns: code, step, message, number (of cells, genes, ... that it is about), setting (the config key to look
at), accepted; in `results/run/` also job, which is the log's place below `results/logs/`.

```yaml
warnings:
  accept: [values_not_parsed] # known: listed apart on the page, only counted on the terminal
  error: [genes_not_shared] # must not happen: stops the run
```

A code in `error` stops the job that would warn of it. Where that job is done, `warning_table` stops instead,
so that no page and no release are made. A change of either list reruns no step that is done.

A step that warns calls `warn(code, message, count=..., setting=...)`, and its rule declares an output named
`warnings`, which `warning_tables` in `rules/release.smk` lists. The message names what it is about, since
the rows of all jobs are put together, and says nothing that depends on shards. A new code is one line in
`scripts/job/_codes.py`.
"""

if __name__ == "__main__":
    codes = ", ".join(f"`{code}`" for code in PREDICTED)
    predicted = (
        f"`make doctor` predicts {codes} before a run, in the words of the run; the others need counts."
    )
    sys.stdout.write(INTRODUCTION + "\n" + textwrap.fill(predicted, 110) + "\n")
    for step, codes in BY_STEP.items():
        sys.stdout.write(f"\n## {step}\n\n| code | meaning |\n|---|---|\n")
        sys.stdout.write("".join(f"| `{code}` | {means} |\n" for code, means in codes.items()))
