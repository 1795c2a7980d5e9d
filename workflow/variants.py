"""A variant of a sweep in words."""

import json

COHORT = ("simulate", "cohort")  # sections that make another cohort


def describe_variant(overlay: dict) -> dict[str, str]:
    """`changes` and `note` of a variant, for the table of stability. overlay: the keys that it sets."""
    other = [section for section in COHORT if section in overlay]
    note = f"another cohort ({', '.join(other)}): cells and genes are matched by name" if other else ""
    return {"changes": describe_changes(overlay), "note": note}


def describe_changes(overlay: dict, path: str = "") -> str:
    """An overlay in one line: `qc.max_pct_mt: 10; preprocess.n_top_genes: 200`."""
    return "; ".join(
        describe_changes(value, f"{path}{key}.")
        if isinstance(value, dict)
        else f"{path}{key}: {json.dumps(value)}"
        for key, value in overlay.items()
    )
