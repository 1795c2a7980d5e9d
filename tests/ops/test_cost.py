"""Where the time went, from records and logs that are written by hand."""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

import cost

ROOT = Path(__file__).parent.parent.parent
START = datetime(2026, 11, 21, 6, 0, 0).timestamp()  # local time, as in Snakemake's logs


class Run:
    """A finished run: jobs are put on its cores one after the other."""

    def __init__(self, folder, cores=2, planning=4.0):
        self.folder, self.cores, self.random = folder, cores, Random(1)
        self.free = [planning] * cores
        self.log = [f"Provided cores: {cores}\n"]

    def job(
        self, rule, number, *, startup=2.0, imports=0.0, io=0.0, compute=1.0, queue=0.0, wait=0.0, **other
    ):
        core = self.free.index(min(self.free))
        handed = self.free[core]
        began = handed + queue
        threads, used = other.pop("threads", 1), compute
        work = io + wait + compute / threads
        self.free[core] = began + startup + imports + work
        path = self.folder / f"results/benchmarks/{rule}/{number}.perf.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "task_name": rule, "wildcards": {"number": str(number)},
            "start_time": datetime.fromtimestamp(START + began + startup, UTC).isoformat(),
            "startup_s": startup, "wall_time_s": imports + work, "imports_s": imports,
            "cpu_time_s": used + startup + imports, "startup_cpu_s": startup, "imports_cpu_s": imports,
            "core_wait_s": wait, "peak_rss_mb": 300.0, "mem_mb_requested": 500, "runtime_min_requested": 10,
            "input_mb": 1.0, "read_mb": 1.0, "written_mb": 1.0, "threads": threads, "attempt": 1,
            "status": "ok", "host": "node",
        }  # fmt: skip
        path.write_text(json.dumps(facts | other))
        stamp = datetime.fromtimestamp(START + handed).strftime("%a %b %d %H:%M:%S %Y")
        block = f"[{stamp}]\nrule {rule}:\n    jobid: {number}\n    wildcards: number={number}\n"
        self.log.append(block)

    def report(self, cores=None):
        logs = self.folder / ".snakemake/log"
        logs.mkdir(parents=True)
        name = datetime.fromtimestamp(START).strftime("%Y-%m-%dT%H%M%S.000000.snakemake.log")
        (logs / name).write_text("".join(self.log))
        jobs, run = cost.read_jobs(self.folder / "results", logs)
        return cost.make_report(jobs, run, cores)


def thousand_tiny_jobs(run):
    for number in range(1000):
        run.job("tiny", number, startup=1.5, imports=0.5, compute=run.random.uniform(0.05, 0.2))


def slow_file_system(run):
    for number in range(20):
        run.job("load", number, io=run.random.uniform(40, 60), compute=5)


def one_slow_tool(run):
    for number in range(10):
        run.job("quick", number, compute=run.random.uniform(3, 6))
    run.job("slow", 99, compute=900)


def huge_plan(run):
    for number in range(10):
        run.job("quick", number, compute=20)


def busy_cluster(run):
    for number in range(20):
        run.job("quick", number, compute=10, queue=run.random.uniform(60, 90))


def too_many_cores(run):
    run.job("alone", 0, compute=300)


@pytest.mark.parametrize(
    ("seed", "options", "verdict", "named"),
    [
        (thousand_tiny_jobs, {}, "startup", "1,000 jobs of tiny"),
        (slow_file_system, {}, "io", "20 jobs of load"),
        (one_slow_tool, {}, "computing", "1 jobs of slow"),
        (huge_plan, {"planning": 600.0}, "planning", "10 jobs"),
        (busy_cluster, {}, "queueing", "jobs of quick"),
        (too_many_cores, {"cores": 16}, "idle", "the longest is alone"),
    ],
)
def test_each_seeded_run_turns_the_verdict(tmp_path, seed, options, verdict, named):
    run = Run(tmp_path, **options)
    seed(run)
    facts = run.report()
    assert facts["dominant"] == verdict
    assert named in facts["evidence"]
    assert facts["advice"] == cost.ADVICE[verdict]
    # the six classes add up to all cores over the whole duration
    assert sum(facts["seconds"].values()) == pytest.approx(facts["cores"] * facts["duration_s"], rel=0.01)


def test_one_job_by_hand(tmp_path):
    """10 s of planning, handed over, 5 s of queueing, 2 + 3 s of start-up, 4 s of I/O, 20 s on 2 threads."""
    run = Run(tmp_path, cores=2, planning=10.0)
    run.job("only", 1, startup=2, imports=3, io=4, compute=20, queue=5, threads=2)
    facts = run.report()
    # work is 4 + 20 / 2 s, of two threads; of 5 s of queueing 1 is within the log's resolution, so idle
    assert facts["duration_s"] == 10 + 5 + 2 + 3 + 14
    seconds = facts["seconds"]
    assert (seconds["planning"], seconds["queueing"], seconds["startup"]) == (20, 8, 10)
    assert seconds["computing"] == 20
    assert seconds["io"] + seconds["idle"] == 10
    assert facts["core_hours"] == round(2 * 19 / 3600, 3)


def test_waiting_for_a_core_is_not_taken_for_io(tmp_path):
    run = Run(tmp_path, cores=1, planning=0.0)
    run.job("crowded", 1, startup=1, io=2, compute=5, wait=30)
    seconds = run.report()["seconds"]
    assert (seconds["io"], seconds["computing"]) == (2, 5)
    assert seconds["idle"] == 30


def test_only_jobs_shorter_than_their_overhead_are_flagged(tmp_path):
    run = Run(tmp_path)
    thousand_tiny_jobs(run)
    run.job("long", 1, compute=30)
    facts = run.report()
    assert [row["rule"] for row in facts["tiny"]] == ["tiny"]
    assert facts["tiny"][0]["jobs"] == 1000


def test_requests_far_from_use_get_a_proposal(tmp_path):
    run = Run(tmp_path)
    run.job("close", 1, peak_rss_mb=950.0, mem_mb_requested=1000)
    run.job("fits", 1, peak_rss_mb=600.0, mem_mb_requested=1000)
    run.job("wide", 1, peak_rss_mb=700.0, mem_mb_requested=8000)
    run.job("small", 1, peak_rss_mb=50.0, mem_mb_requested=500)
    run.job("late", 1, compute=1160)
    run.job("early", 1, runtime_min_requested=600)
    found = {(row["rule"], row["request"]): row["proposed"] for row in run.report()["requests"]}
    # 1.3 x 950 = 1235 -> 1300; 1.3 x 700 = 910 -> 1000; 1162 s are 19.4 of 10 min: 1.3 x 19.4 = 25.2 -> 30
    assert found == {
        ("close", "mem_mb"): 1300,
        ("wide", "mem_mb"): 1000,
        ("late", "runtime"): 30,
        ("early", "runtime"): 10,
    }


def test_jobs_of_an_earlier_run_do_not_count(tmp_path):
    run = Run(tmp_path)
    run.job("new", 1)
    path = tmp_path / "results/benchmarks/new/1.perf.json"
    facts = json.loads(path.read_text())
    old = facts | {"task_name": "old", "start_time": "2026-01-01T00:00:00+00:00"}
    (path.parent / "0.perf.json").write_text(json.dumps(old))
    assert [row["rule"] for row in run.report()["rules"]] == ["new"]


def test_a_failed_and_a_killed_job_are_counted(tmp_path):
    run = Run(tmp_path)
    run.job("good", 1)
    run.job("bad", 1, status="failed", category="configuration")
    run.job("killed", 1, status="running")
    facts = run.report()
    assert (facts["jobs"], facts["failed"]) == (3, 2)


def test_a_crowded_machine_is_told(tmp_path):
    run = Run(tmp_path)
    run.job("calm", 1)
    assert "crowded" not in cost.format_report(run.report())
    path = tmp_path / "results/benchmarks/calm/1.perf.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"startup_s": 2.0, "startup_cpu_s": 0.4}))
    jobs, told = cost.read_jobs(tmp_path / "results", tmp_path / ".snakemake/log")
    assert "had a core for 20% of their time" in cost.format_report(cost.make_report(jobs, told, None))


def test_the_report_is_json_and_a_table(tmp_path):
    run = Run(tmp_path)
    slow_file_system(run)
    facts = json.loads(json.dumps(run.report()))
    shown = cost.format_report(facts)
    assert "dominant: io" in shown
    assert "what helps: a faster disk" in shown
    assert all(name in shown for name in cost.CLASSES[1:])
