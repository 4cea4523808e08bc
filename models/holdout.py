"""Which training tiles are held out to tell when fine-tuning has learnt enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def held_out(
    labels: Sequence[str], groups: Sequence[str], *, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose tiles to hold out: about a fraction of every class, whole groups only.

    A group is taken if no class then has more than its share held out; where a class would
    have none, its smallest group is taken that leaves it a tile to train on. A class whose
    tiles all lie in one group is trained on and not validated.

    Parameters
    ----------
    labels : sequence of str, length n
        Class of each tile.
    groups : sequence of str, length n
        What must stay together: the patient, or the tile itself.
    fraction : float
        Share of every class to hold out; at least one tile of a class that can spare it.
    seed : int

    Returns
    -------
    ndarray of bool, shape (n,)
        True where the tile is held out.
    """
    held = np.zeros(len(labels), bool)
    if fraction == 0:
        return held
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    n_of_class = Counter(labels)
    share = {label: max(1, round(fraction * n)) for label, n in n_of_class.items()}
    n_held: Counter[str] = Counter()
    names = sorted(members)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]

    def take(group: str) -> None:
        held[members[group]] = True
        n_held.update(labels[i] for i in members[group])

    def spares(group: str) -> bool:
        """Whether every class keeps a tile to train on without this group."""
        counts = Counter(labels[i] for i in members[group])
        return all(n_held[label] + n < n_of_class[label] for label, n in counts.items())

    def fits(group: str) -> bool:
        counts = Counter(labels[i] for i in members[group])
        return all(n_held[label] + n <= share[label] for label, n in counts.items())

    for group in order:
        if fits(group) and spares(group):
            take(group)
    for label in sorted(n_of_class):
        if n_held[label] == 0:
            able = [g for g in order if any(labels[i] == label for i in members[g]) and spares(g)]
            if able:
                take(min(able, key=lambda group: len(members[group])))
    return held
