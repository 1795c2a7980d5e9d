"""Real messages and exceptions, each with the category that a person would give it."""

import collections
import errno
import gzip
import json
import subprocess
import zlib
from random import Random

import pytest

from job._failures import (
    Category,
    CorruptedInput,
    InputError,
    RetryPolicy,
    Stopped,
    classify,
    message_of,
    read_retries,
)

IO, EXECUTOR, CONFIG = Category.TRANSIENT_IO, Category.EXECUTOR, Category.CONFIGURATION
CORRUPTED, CRASH, UNKNOWN = Category.CORRUPTED_INPUT, Category.ANALYSIS_CRASH, Category.UNKNOWN


def system(code, path="x"):
    return OSError(code, "message of the system", path)


def caused(outer, inner):
    outer.__cause__ = inner
    return outer


EXCEPTIONS = [
    (MemoryError("Unable to allocate 12.3 GiB for an array with shape (40000, 41000)"), EXECUTOR),
    (caused(RuntimeError("worker failed"), MemoryError()), EXECUTOR),
    (caused(ValueError("could not read"), system(errno.ESTALE)), IO),
    (system(errno.EIO), IO),
    (system(errno.ESTALE), IO),
    (system(errno.EAGAIN), IO),
    (system(errno.ETIMEDOUT), IO),
    (system(errno.ENOLCK), IO),
    (system(errno.EBUSY), IO),
    (system(errno.EREMOTEIO), IO),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), IO),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), IO),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), IO),
    (TimeoutError("timed out"), IO),
    (BlockingIOError(errno.EAGAIN, "unable to lock file"), IO),
    (system(errno.ENOSPC), CONFIG),
    (system(errno.EDQUOT), CONFIG),
    (system(errno.ENOENT, "/data/preempt_study/oom/timeout.h5ad"), CONFIG),
    (system(errno.EACCES), CONFIG),
    (IsADirectoryError(errno.EISDIR, "Is a directory"), CONFIG),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory"), CONFIG),
    (FileExistsError(errno.EEXIST, "File exists"), CONFIG),
    (InputError("load.sample: 'donor' is not a column; set load.sample"), CONFIG),
    (caused(InputError("cohort.path: unreadable"), OSError("Unable to open file (truncated file)")), CONFIG),
    (ModuleNotFoundError("No module named 'harmonypy'"), CONFIG),
    (CorruptedInput("my.h5ad: cannot be read; get the file again"), CORRUPTED),
    (caused(RuntimeError("while loading"), CorruptedInput("my.h5ad: damaged")), CORRUPTED),
    (caused(CorruptedInput("my.h5ad: damaged"), system(errno.EACCES)), CORRUPTED),
    (Stopped(15), EXECUTOR),
    (KeyboardInterrupt(), EXECUTOR),
    (RuntimeError("A child process terminated abruptly, the process pool was terminated abruptly"), EXECUTOR),
    (RuntimeError("A worker process managed by the executor was unexpectedly terminated."), EXECUTOR),
    (gzip.BadGzipFile("Not a gzipped file (b'<h')"), CORRUPTED),
    (EOFError("Compressed file ended before the end-of-stream marker was reached"), CORRUPTED),
    (zlib.error("Error -3 while decompressing data: incorrect header check"), CORRUPTED),
    (json.JSONDecodeError("Expecting value", "", 0), CORRUPTED),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), CORRUPTED),
    (OSError("Unable to synchronously open file (truncated file: eof = 2048, stored_eof = 9000)"), CORRUPTED),
    (OSError("Unable to synchronously open file (file signature not found)"), CORRUPTED),
    (OSError("Can't synchronously read data (inflate() failed)"), CORRUPTED),
    (ValueError("Parquet magic bytes not found in footer. Either the file is corrupted"), CORRUPTED),
    (KeyError("louvain"), CRASH),
    (AttributeError("'csr_array' object has no attribute 'getnnz'"), CRASH),
    (IndexError("index 3 is out of bounds for axis 0 with size 3"), CRASH),
    (TypeError("unsupported operand type(s)"), CRASH),
    (AssertionError("shape (50, 3), not (3, 50)"), CRASH),
    (ZeroDivisionError("division by zero"), CRASH),
    (FloatingPointError("overflow encountered"), CRASH),
    (ValueError("NaNs are not allowed in the count matrix."), CRASH),
    (RuntimeError("the matrix is singular"), CRASH),
    (subprocess.CalledProcessError(-9, "sort"), EXECUTOR),
    (subprocess.CalledProcessError(137, "sort"), EXECUTOR),
    (subprocess.CalledProcessError(-11, "sort"), CRASH),
]

CODES = [
    (-9, EXECUTOR),
    (137, EXECUTOR),
    (-15, EXECUTOR),
    (143, EXECUTOR),
    (130, EXECUTOR),
    (139, CRASH),
    (-6, CRASH),
    (135, CRASH),
    (136, CRASH),
    (1, UNKNOWN),
    (2, UNKNOWN),
]

STATES = [
    ("OUT_OF_MEMORY", EXECUTOR),
    ("TIMEOUT", EXECUTOR),
    ("NODE_FAIL", EXECUTOR),
    ("PREEMPTED", EXECUTOR),
    ("CANCELLED by 0", EXECUTOR),
    ("CANCELLED+", EXECUTOR),
    ("DEADLINE", EXECUTOR),
    ("FAILED", UNKNOWN),
]

TEXTS = [
    ("slurmstepd: error: Detected 1 oom_kill event in StepId=3.0. Some tasks were OOM Killed.", EXECUTOR),
    ("slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***", EXECUTOR),
    ("slurmstepd: error: *** STEP 12.0 ON n1 CANCELLED AT 2026-01-01 DUE TO PREEMPTION ***", EXECUTOR),
    ("slurmstepd: error: Exceeded job memory limit", EXECUTOR),
    ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 30.5 GiB for an array", EXECUTOR),
    ("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc", EXECUTOR),
    ("MemoryError", EXECUTOR),
    ("distributed.scheduler.KilledWorker: Attempted to run on 4 workers, all those workers died", EXECUTOR),
    ("srun: error: Node failure on n7", EXECUTOR),
    ("Out of memory: Killed process 4411 (python)", EXECUTOR),
    ("OSError: [Errno 116] Stale file handle", IO),
    ("requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='x', port=443): Read timed out.", IO),
    ("curl: (7) Failed to connect: Connection refused", IO),
    ("urllib3.exceptions.NameResolutionError: Temporary failure in name resolution", IO),
    ("http.client.RemoteDisconnected: Remote end closed connection without response", IO),
    ("HTTP 503 Service Unavailable", IO),
    ("502 Server Error: Bad Gateway for url", IO),
    ("OSError: [Errno 5] Input/output error", IO),
    ("BlockingIOError: [Errno 11] Unable to synchronously open file (unable to lock file, errno = 11)", IO),
    ("a floating point exception mask is set\nConnection reset by peer", IO),
    ("OSError: [Errno 28] No space left on device", CONFIG),
    ("OSError: [Errno 122] Disk quota exceeded", CONFIG),
    ("PermissionError: [Errno 13] Permission denied: '/cvmfs/data/x.h5ad'", CONFIG),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/scratch/oom_timeout/corrupt.h5ad'", CONFIG),
    ("ModuleNotFoundError: No module named 'scrublet'", CONFIG),
    ("yaml.scanner.ScannerError: mapping values are not allowed here", CONFIG),
    ("bash: line 1: Rscript: command not found", CONFIG),
    ("gzip: stdin: unexpected end of file", CORRUPTED),
    ("zlib.error: Error -3 while decompressing data: incorrect header check", CORRUPTED),
    ("OSError: Unable to open file (truncated file: eof = 96, sblock->base_addr = 0)", CORRUPTED),
    ("gzip: matrix.mtx.gz: crc check failed", CORRUPTED),
    ("Segmentation fault (core dumped)", CRASH),
    ("AssertionError", CRASH),
    ("KeyError: 'louvain'", CRASH),
    ("ValueError: operands could not be broadcast together with shapes (3,) (4,)", CRASH),
    ("numpy.linalg.LinAlgError: Singular matrix", CRASH),
    ("double free or corruption (!prev)", CRASH),
    ("a scenario error in ratio error with bad confs given", UNKNOWN),
    ("executing step 3: sample s1 of 12", UNKNOWN),
    ("reading /data/preempted/out_of_memory/Connection refused.h5ad", UNKNOWN),
    ("label 'stale file handle' has 12 cells", UNKNOWN),
    ("", UNKNOWN),
]  # fmt: skip

CORPUS = (
    [(f"{type(e).__name__}: {e}", {"exception": e}, category) for e, category in EXCEPTIONS]
    + [(f"exit {code}", {"exit_code": code}, category) for code, category in CODES]
    + [(f"state {state}", {"state": state}, category) for state, category in STATES]
    + [(text[:60], {"text": text}, category) for text, category in TEXTS]
)


def test_the_whole_corpus_is_right_and_large_enough():
    confusion = collections.Counter((want, classify(**facts).category) for _, facts, want in CORPUS)
    table = "\n".join(
        f"{want:16}" + "".join(f"{confusion[want, got]:6}" for got in Category) for want in Category
    )
    print(f"\nrows: right category, columns: {', '.join(Category)}\n{table}")
    wrong = [
        (name, want, classify(**facts)) for name, facts, want in CORPUS if classify(**facts).category != want
    ]
    assert not wrong
    assert len(CORPUS) >= 80


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"state": "OUT_OF_MEMORY", "exit_code": 1, "text": "KeyError: 'x'"}, "oom"),
        ({"exit_code": 137, "text": "Detected 1 oom_kill event"}, "oom"),
        ({"oom_kills": 1, "exception": KeyError("x")}, "oom"),
        ({"oom_kills": 1, "exception": InputError("age: no such column")}, ""),
        ({"exception": Stopped(15)}, "terminated"),
        ({"state": "TIMEOUT"}, "timeout"),
        ({"exception": system(errno.ENOSPC)}, "disk_full"),
        ({"exit_code": -9}, "killed"),
    ],
)
def test_structured_facts_decide_before_text(facts, kind):
    assert classify(**facts).kind == kind


def test_a_note_is_part_of_the_evidence():
    error = ValueError("no value")
    error.add_note("in cell type NK")
    assert message_of(error) == "no value; in cell type NK"
    assert classify(error).evidence == "ValueError: no value; in cell type NK"


def test_delays_grow_and_are_capped():
    policy = RetryPolicy(max_retries=9, base_delay=2, backoff_factor=3, jitter=0, max_delay=20)
    assert [policy.delay(retry, Random(0)) for retry in (1, 2, 3, 4)] == [2, 6, 18, 20]


def test_jitter_is_within_its_share_and_seeded():
    policy = RetryPolicy(max_retries=4, base_delay=2, backoff_factor=2, jitter=0.25, max_delay=60)
    delays = [policy.delay(1, Random(seed)) for seed in range(50)]
    assert all(policy.base_delay <= delay <= policy.base_delay * (1 + policy.jitter) for delay in delays)
    assert len(set(delays)) == 50
    assert delays == [policy.delay(1, Random(seed)) for seed in range(50)]


ONE = {"base_delay": 1, "backoff_factor": 2, "jitter": 0, "max_delay": 100}
SECTION = {
    "max_total": 4,
    "deadline": 50,
    "transient_io": ONE | {"max_retries": 3},
    "unknown": ONE | {"max_retries": 2, "base_delay": 10},
}


def test_each_category_has_a_counter_of_its_own():
    retries = read_retries(json.dumps(SECTION))
    delays = [retries.delay("transient_io", {"transient_io": n}, 0, Random(0)) for n in range(4)]
    assert delays == [1, 2, 4, None]
    assert retries.delay("unknown", {"transient_io": 3}, 0, Random(0)) == 10


def test_all_categories_share_a_cap_and_a_deadline():
    retries = read_retries(json.dumps(SECTION))
    assert retries.delay("unknown", {"transient_io": 3, "unknown": 1}, 0, Random(0)) is None
    assert retries.delay("transient_io", {"transient_io": 2}, 46, Random(0)) == 4
    assert retries.delay("transient_io", {"transient_io": 2}, 47, Random(0)) is None


def test_what_would_repeat_itself_has_no_policy():
    retries = read_retries(json.dumps(SECTION))
    assert retries.delay("corrupted_input", {}, 0, Random(0)) is None
    assert read_retries(None).delay("transient_io", {}, 0, Random(0)) is None
    with pytest.raises(ValueError, match="configuration would end the same"):
        read_retries(json.dumps(SECTION | {"configuration": ONE | {"max_retries": 1}}))
