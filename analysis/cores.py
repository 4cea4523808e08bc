"""Work on many splits side by side, one core each, with the same numbers on any machine load.

The cores are this machine's, unless the caller is inside of ``joblib.parallel_config``: then
they are those of its backend, be it Ray's, Dask's or processes of this machine.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Other machines get the work in so many rounds, each with the data once for every core.
_N_ROUNDS = 10


def on_every_core(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Yield ``work(item)`` of every item, in the order of the items.

    Each item has one BLAS thread: cores are better spent on items, and sums keep their
    order, so the numbers do not depend on ``n_jobs``, nor on the backend where its machines
    have the same kind of processor.

    Parameters
    ----------
    work : callable
        Mostly numpy or scikit-learn, which let other threads run.
    items : sequence
    n_jobs : int, optional
        Items worked on at a time; by default one a core.
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` after each item.
    """
    from joblib.parallel import get_active_backend

    # A wish, not an order: whatever the caller configured comes first.
    backend, n_configured = get_active_backend(prefer="threads")
    n_jobs = backend.effective_n_jobs(n_jobs or n_configured or -1)
    here = getattr(backend, "supports_sharedmem", False)
    results = (_on_threads if here else _on_backend)(work, items, n_jobs)
    for n_done, result in enumerate(results, start=1):
        if on_progress is not None:
            on_progress(n_done, len(items))
        yield result


def _on_threads(
    work: Callable[[Item], Result], items: Sequence[Item], n_jobs: int
) -> Iterator[Result]:
    import scipy.linalg  # noqa: F401
    import sklearn.linear_model  # noqa: F401  loads every BLAS, so that the limit reaches it
    from threadpoolctl import threadpool_limits

    with (
        threadpool_limits(1),
        ThreadPoolExecutor(n_jobs, initializer=threadpool_limits, initargs=(1,)) as pool,
    ):
        yield from pool.map(work, items)


def _on_backend(
    work: Callable[[Item], Result], items: Sequence[Item], n_jobs: int
) -> Iterator[Result]:
    from joblib import Parallel, delayed

    n_at_once = max(n_jobs, -(-len(items) // _N_ROUNDS))
    with Parallel(n_jobs=n_jobs, batch_size=-(-n_at_once // n_jobs)) as parallel:
        for first in range(0, len(items), n_at_once):
            some = items[first : first + n_at_once]
            for result, told in parallel(delayed(_on_one_core)(work, item) for item in some):
                for warning in told:
                    warnings.warn_explicit(*warning)
                yield result


def _on_one_core(
    work: Callable[[Item], Result], item: Item
) -> tuple[Result, list[tuple[Warning | str, type[Warning], str, int]]]:
    """A result, and the warnings that would otherwise end in another machine's log."""
    with _blas().limit(limits=1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work(item)
    return result, [(each.message, each.category, each.filename, each.lineno) for each in caught]


@cache
def _blas() -> Any:
    """The BLAS libraries of this process, looked for once."""
    import scipy.linalg  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
