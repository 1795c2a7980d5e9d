"""Print workflow/CONTRACT.md, every published file, from workflow/schemas/publish.yaml: `make contract`."""

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
INTRODUCTION = """# The contract of results/publish/{contract}

Made from `workflow/schemas/publish.yaml` by `make contract`; edit the descriptions there.

`results/publish/{contract}` is what others may rely on; everything else below `results/` may change at any
time. It is a link to `results/publish/releases/<id>`, where id is a digest of the content of the release.
`release.json` beside it names the release that the last run made; after `make rollback` the link leads to
another one.

- **Whole.** A release is built aside, verified, flushed to disk and switched to in one step: a reader sees
  the old one or the new one, also when the run is killed. Resolve the link once (`realpath`) to read
  several files of one release.
- **Checked.** `make verify` or, on a copy of the folder anywhere, `python scripts/publish/verify.py DIR`
  (pandas, pyarrow, h5py; no network) recomputes sizes and digests, rejects missing, extra, changed, empty and
  linked files, checks every column below, and checks facts across files: cell types and genes are the
  discovered ones, attrition adds up, counts are conserved from the input over cells and sums to
  `cohort.h5ad`. `--release ID` also checks the id you were given.
- **Kept.** The current release and the `publish.keep` others published last; older ones are removed.
- **Repeatable.** Two runs of the same code, config, inputs and versions make the same release; only
  `{volatile}` differs.

## Compatibility

Within {contract}, files, columns, units and meanings stay; files, columns and values may be added, so read
columns by name, and rows may come in another order. Anything else (a path, a column or a value removed or
renamed, another type, unit or meaning) makes the next `v`. `workflow/VERSION` is semantic: its major number
is that of the contract, the minor one changes with additions, config keys and changed numbers, the last one
with neither. `make contract-guard BASE=main` compares contract and version with a base revision: a changed
contract without another version fails, a breaking change without the next major number fails.

Files marked with a condition exist when the config asks for them: contrasts; gene_sets (and contrasts);
prediction (`ridge.target`, and a tested cell type). Tables of differential
expression exist when a cell type is tested.

Formats: TSV is UTF-8 with a header, tabs, no quotes needed, empty where a value is missing, True and False;
parquet and h5ad have missing values of their own; JSON is UTF-8. `{{contrast}}` is a name of the config,
`{{resolution}}` a number of it. Type `text?`: may be missing.

`manifest.json`: contract, workflow_version, release, volatile (files without size and digest in the
id), and files: path, schema (the headings below), bytes, sha256, rows (null where there are none).

## Files
"""


def describe(kind: str, spec: dict, common: dict) -> list[str]:
    """Heading, facts and columns of one kind of file."""
    facts = [
        f"One row: {spec['rows']}." if "columns" in spec else f"{spec['rows'][0].upper()}{spec['rows'][1:]}."
    ]
    facts += [f"Only with {spec['when']}."] if "when" in spec else []
    facts += [f"Unique: {', '.join(spec['key'])}."] if "key" in spec else []
    facts += [f"Further columns: {spec['further']}."] if "further" in spec else []
    facts += [f"Keys: {', '.join(spec['keys'])}."] if "keys" in spec else []
    lines = [f"\n### {kind}\n", f"`{spec['path']}` {' '.join(facts)}\n"]
    if "columns" not in spec:
        return lines
    lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for name, column in spec["columns"].items():
        column = column or common[name]
        bounds = [f">= {column['min']}"] if "min" in column else []
        bounds += [f"<= {column['max']:g}"] if "max" in column else []
        bounds += (
            [f"one of {', '.join(value or 'empty' for value in column['values'])}"]
            if "values" in column
            else []
        )
        kind_of = ", ".join([column["type"], *bounds])
        means = column["means"] + (" (not in every release)" if column.get("optional") else "")
        lines.append(f"| `{name}` | {kind_of} | {column.get('unit', '')} | {means} |")
    return lines


if __name__ == "__main__":
    contract = yaml.safe_load((ROOT / "workflow/schemas/publish.yaml").read_text(encoding="utf-8"))
    volatile = ", ".join(spec["path"] for spec in contract["files"].values() if spec.get("volatile"))
    pages = [
        line for kind, spec in contract["files"].items() for line in describe(kind, spec, contract["columns"])
    ]
    sys.stdout.write(INTRODUCTION.format(contract=contract["contract"], volatile=volatile))
    sys.stdout.write("\n".join(pages) + "\n")
