"""Keep what pynndescent compiles while it is imported.

scanpy's neighbours and umap-learn import it, and it has most of its functions compiled anew in every process:
9 s of 12 on the machine of docs/performance.md.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def compilations_kept() -> Iterator[None]:
    """Numba keeps functions that are defined in here on disk: beside their modules, or in NUMBA_CACHE_DIR.

    Only for imports: numba would take a function compiled with other options for the same.
    """
    import numba

    plain = numba.njit

    @functools.wraps(plain)
    def kept(*arguments, **options):
        return plain(*arguments, **({"cache": True} | options))

    numba.njit = kept
    try:
        with warnings.catch_warnings():
            # said by umap-learn of a part that is not used here
            warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
            yield
    finally:
        numba.njit = plain
