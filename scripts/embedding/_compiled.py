"""Cache on disk the functions that pynndescent compiles at import.

scanpy's neighbours and umap-learn import pynndescent, which by default compiles most of its functions again
in every process.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def cache_compilations() -> Iterator[None]:
    """Let numba cache functions defined in this block, next to their modules or in NUMBA_CACHE_DIR.

    Use it for imports only: numba does not distinguish a function from the same one with other options.
    """
    import numba

    plain = numba.njit

    @functools.wraps(plain)
    def njit(*arguments, **options):
        return plain(*arguments, **({"cache": True} | options))

    numba.njit = njit
    try:
        with warnings.catch_warnings():
            # umap-learn warns about a part of it that is not used here
            warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
            yield
    finally:
        numba.njit = plain
