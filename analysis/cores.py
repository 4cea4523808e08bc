"""Work on many splits side by side, one core each, with the same numbers on any machine load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_every_core(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Yield ``work(item)`` of every item, in the order of the items.

    Each item has one BLAS thread: cores are better spent on items, and sums keep their
    order, so the numbers do not depend on ``n_jobs``.

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
    import joblib
    import scipy.linalg  # noqa: F401
    import sklearn.linear_model  # noqa: F401  loads every BLAS, so that the limit reaches it
    from threadpoolctl import threadpool_limits

    with (
        threadpool_limits(1),
        ThreadPoolExecutor(
            n_jobs or joblib.cpu_count(), initializer=threadpool_limits, initargs=(1,)
        ) as pool,
    ):
        for n_done, result in enumerate(pool.map(work, items), start=1):
            if on_progress is not None:
                on_progress(n_done, len(items))
            yield result
