"""Functions that pynndescent compiles at import are cached, and no others."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from embedding._compiled import cache_compilations

SCRIPTS = Path(__file__).parent.parent.parent.parent / "scripts"
PROGRAM = """
import os, sys
os.environ["NUMBA_CACHE_DIR"], sys.path[:0] = sys.argv[1], sys.argv[2:3]
if len(sys.argv) > 2:
    from embedding._compiled import cache_compilations
    with cache_compilations():
        import pynndescent.distances
else:
    import pynndescent.distances
import numpy as np
x, y = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
value = float(pynndescent.distances.euclidean(x, y)).hex()
print(sum(pynndescent.distances.euclidean.stats.cache_hits.values()), value)
"""


def distance(*arguments):
    """Number of compilations of one function that came from the cache, and its value."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_second_process_uses_the_cache_and_computes_the_same(tmp_path):
    plain, first, second = distance(tmp_path), distance(tmp_path, SCRIPTS), distance(tmp_path, SCRIPTS)
    assert plain[0] == first[0] == "0"
    assert int(second[0]) > 0
    assert plain[1] == first[1] == second[1]


@pytest.mark.parametrize("divisor", [0, 1])
def test_numba_is_left_as_it_was_also_after_an_error(divisor):
    plain, seen = numba.njit, []
    with contextlib.suppress(ZeroDivisionError), cache_compilations():
        seen.append(numba.njit)
        seen.append(1 / divisor)
    assert len(seen) == 1 + divisor
    assert seen[0] is not plain
    assert numba.njit is plain
