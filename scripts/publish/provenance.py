"""Write the provenance of a run: workflow version and commit, digests of code, config and lock, versions.

All values are params of the rule, so a change of any of them runs this job again. The digests of the input
files are added by `publish`, which has these files as inputs.
"""

import hashlib
import json
import platform

from job import conclude, job

LICENCE = "MIT"
CITATION = "To cite it: CITATION.cff of the project, with this version."


def describe(*, config: dict, **facts: object) -> dict:
    """The facts, with the config, its digest and its seed.

    The digest is the SHA-256 of the config as JSON with sorted keys and without spaces.
    """
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return facts | {
        "licence": LICENCE,
        "citation": CITATION,
        "python": platform.python_version(),
        "random_state": config["random_state"],
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "config": config,
    }


if __name__ == "__main__":
    with job(snakemake) as out:
        facts = describe(**{name: value for name, value in snakemake.params.items() if name})
        with open(out.provenance, "w", encoding="utf-8") as file:
            file.write(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        conclude(f"version {facts['workflow_version']}, commit {facts['commit']}")
