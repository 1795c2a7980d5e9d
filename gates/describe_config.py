"""Every key of the config in words, from the schema's descriptions.

    gates/describe_config.py             print config/README.md, with the defaults of config/config.yaml
    gates/describe_config.py --comments  print config/config.yaml, with its comments as the schema has them

`make config-readme` writes both files. The comment of a key is the first sentence of its description.
Comments on lines of their own and in lists are examples; they stay as they are.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
INTRODUCTION = """# Configuration

Made from `workflow/schemas/config.yaml` by `make config-readme`; edit the descriptions there. The comments in
`config.yaml` are their first sentences.

The defaults in `config.yaml` suit a file without donors, labels or covariates. For a cohort of your own,
write an overlay with what differs (`make init COHORT=my_cohort.h5ad` does) and pass it with `--configfile`:

    snakemake --profile profiles/local --configfile my_cohort.yaml

Sections are merged key by key, lists (covariates, contrasts, gene sets, alphas) are replaced as a whole. An
unknown key or a wrong type stops the run before any job. Complete examples: `kang.yaml`, `onek1k.yaml`.

Without a cohort (`cohort.path`, `cohort.url`) the embedded demo is analysed: the settings of `demo.yaml` are
put over the defaults, and yours over both.
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


def first_sentence(description: str) -> str:
    """A description up to its first full stop, which is left out."""
    return re.split(r"\.(?:\s|$)", description, maxsplit=1)[0]


def with_comments(text: str, schema: dict) -> str:
    """The text of a config with the comment of each section, and of each key in it, from the schema."""
    lines, section = [], {}
    for line in text.splitlines():
        if key := re.match(r"( {2})?(\w+):(?= |$)", line):
            siblings = section.get("properties", {}) if key[1] else schema["properties"]
            content = siblings.get(key[2], {})
            section = section if key[1] else content
            if "description" in content:
                line = f"{re.sub(r'\s+# .*$', '', line)} # {first_sentence(content['description'])}"
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comments", action="store_true", help="config.yaml instead of the page")
    asked = parser.parse_args()
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))
    config = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    if asked.comments:
        sys.stdout.write(with_comments(config, schema))
    else:
        sys.stdout.write(INTRODUCTION + tables(schema, yaml.safe_load(config)))
