"""What the jobs of faults.smk do: need 700 MB, need 160 s, wait to be cancelled, be wrong."""

import time
from pathlib import Path

from job import InputError, job


def hungry(attempt: int) -> str:
    """Touch 700 MB, which the request of the first attempt does not leave beside two Snakemake processes."""
    block = bytearray(700 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(5)
    return f"{len(block)} bytes"


def slow(attempt: int) -> str:
    """Take longer than the two minutes of the first attempt; SLURM looks every 30 s."""
    time.sleep(160)
    return "160 s"


def cancelled(attempt: int) -> str:
    """Wait in the first attempt for somebody to cancel the job, which happens after the demo's run."""
    if attempt == 1:
        time.sleep(3000)
    return f"attempt {attempt}"


def mistaken(attempt: int) -> str:
    """Fail in a way that another attempt repeats."""
    raise InputError("planted: no attempt can mend this; change the test")


if __name__ == "__main__":
    with job(snakemake) as out:
        fault, attempt = snakemake.params.fault, snakemake.resources.attempt
        with open(Path("results") / f"{fault}.attempts", "a") as begun:
            begun.write(f"{attempt}\n")
        Path(out.text).write_text(globals()[fault](attempt))
