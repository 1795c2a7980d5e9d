# What every run ends with, whether it succeeded or not: its failures in one file and one summary.


def gather_failures():
    """Write every recorded failure to <results>/run/failures.jsonl and print them by category."""
    results = Path(workflow.pathvars.apply("<results>"))
    lines = [
        line
        for record in sorted((results / "benchmarks").rglob("*.failures.jsonl"))
        for line in record.read_text().splitlines()
    ]
    (results / "run").mkdir(parents=True, exist_ok=True)
    (results / "run" / "failures.jsonl").write_text("".join(f"{line}\n" for line in lines))
    by_category = {}
    for failure in map(json.loads, lines):
        by_category.setdefault(failure["category"], []).append(failure)
    for category, failures in sorted(by_category.items()):
        print(f"{len(failures)} failures of category {category}:", file=sys.stderr)
        for failure in failures:
            where = " ".join([failure["task_name"], *failure["wildcards"].values()])
            print(f"  {where}, attempt {failure['attempt']}: {failure['evidence']}", file=sys.stderr)


onsuccess:
    gather_failures()


onerror:
    gather_failures()
