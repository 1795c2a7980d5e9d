"""Print config/README.md, every key of the config, from the schema and the defaults: `make config-readme`."""

import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
INTRODUCTION = """# Configuration

Made from `workflow/schemas/config.yaml` by `make config-readme`; edit the descriptions there.

The defaults in `config.yaml` analyse the embedded demo cohort. For a cohort of your own, write an overlay
that holds only what differs (`make init COHORT=my_cohort.h5ad` does) and pass it with `--configfile`:

    snakemake --profile profiles/local --configfile my_cohort.yaml

Sections are merged key by key, lists (covariates, contrasts, gene sets, alphas) are replaced as a whole. An
unknown key or a wrong type stops the run before any job. Complete examples: `kang.yaml`, `onek1k.yaml`.
"""


def kind(leaf: dict, definitions: dict) -> str:
    """What a value may be, in a few words."""
    leaf = {**definitions.get(leaf.get("$ref", "").rpartition("/")[2], {}), **leaf}
    if "enum" in leaf:
        return " or ".join(f"`{value}`" for value in leaf["enum"])
    types = leaf.get("type", "any")
    text = " or ".join(types) if isinstance(types, list) else types
    bounds = [
        f"{sign} {leaf[key]}"
        for key, sign in {
            "minimum": ">=",
            "exclusiveMinimum": ">",
            "maximum": "<=",
            "exclusiveMaximum": "<",
        }.items()
        if key in leaf
    ]
    return ", ".join([text, *bounds])


def tables(schema: dict, defaults: dict) -> str:
    """One heading and table per section, in the order of the schema."""
    lines = []
    for section, content in schema["properties"].items():
        description = content.get("description", "")
        lines += [f"\n## {section}\n", f"{description}\n"]
        leaves = content.get("properties", {section: content} if "properties" not in content else {})
        lines += ["| key | value | default | what it does |", "|---|---|---|---|"]
        for key, leaf in leaves.items():
            default = defaults.get(section) if key == section else (defaults.get(section) or {}).get(key)
            value = json.dumps(default).replace("|", "\\|")
            words = leaf.get("description", "").replace("|", "\\|")
            lines.append(f"| `{key}` | {kind(leaf, schema['$defs'])} | `{value}` | {words} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    sys.stdout.write(INTRODUCTION + tables(schema, defaults))
