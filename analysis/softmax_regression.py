"""Multinomial logistic regression of several splits at once, over rows that they share.

A product of the features with one split's nine columns of weights takes as long as reading the
features from memory; with the columns of five splits side by side the features are read once
for all. So the splits search in step: each has a search of its own, and only what they ask for
is computed together. What each finds does not depend on the others but for rounding.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Tight enough that the probabilities are those of the optimum to about 1e-3, so that they do
# not depend on the road that the search took.
TOLERANCE = 1e-6
MAX_ITERATIONS = 2000
_N_PAIRS = 40  # steps that a search remembers; more memory, fewer steps
_SUFFICIENT = 1e-4  # share of the promised decrease that a step must keep
_UPHILL = 0.8  # share of the slope that may stand at its end, upwards
_NOISE = 1e-6  # of a loss, relative: products are of single precision
_SHORTEST = 1e-10  # of a step that is still tried


@dataclass(frozen=True)
class SplitPredictions:
    """What the regressions of some splits say of every row.

    Attributes
    ----------
    probabilities : ndarray of shape (n_splits, n, n_classes), float64
        Of every row, trained on or not; 0 for a class without a training row in the split.
    converged : ndarray of shape (n_splits,), bool
        False where the search stopped before the gradient was within the tolerance.
    """

    probabilities: NDArray[np.float64]
    converged: NDArray[np.bool_]


def fit_splits(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    in_training: NDArray[np.bool_],
    *,
    n_classes: int,
    c: float,
) -> SplitPredictions:
    """Train one regression a split, each on its own rows, and predict all rows with each.

    Features are standardised with the mean and standard deviation of the split's training
    rows (a feature that is constant there becomes 0). Each regression minimises::

        sum over training rows of −log p(class)  +  |W|² / (2 c)

    with an unpenalised intercept, as scikit-learn's ``LogisticRegression(C=c)`` does; like
    there, two classes have one vector of weights between them. The search is L-BFGS (Liu &
    Nocedal, Mathematical Programming 45:503-528, 1989) with backtracking; it ends when no
    element of the gradient of the mean loss exceeds 1e-6.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Finite.
    labels : ndarray of shape (n,)
        Class of every row, 0 to ``n_classes - 1``.
    in_training : ndarray of shape (n_splits, n), bool
        Rows that each split trains on; at least one a split.
    n_classes : int
        Number of classes.
    c : float
        Inverse strength of the penalty, positive.

    Returns
    -------
    SplitPredictions
    """
    problem = _Problem(features, labels, in_training, n_classes, c)
    start = np.zeros((problem.d + 1) * n_classes)
    searches = [_Search(start, split) for split in range(len(in_training))]
    active = searches
    while active:
        losses, gradients = problem.evaluate(
            np.array([one.trial for one in active]), [one.split for one in active]
        )
        for one, loss, gradient in zip(active, losses, gradients, strict=True):
            one.take(float(loss), gradient)
        active = [one for one in active if one.searching]
    logits = problem.logits(np.array([one.point for one in searches]), list(range(len(searches))))
    return SplitPredictions(
        _softmax(logits)[0].transpose(1, 0, 2),
        np.array([one.converged for one in searches]),
    )


class _Problem:
    """Mean losses of the splits, and their gradients.

    A point is the split's weights of standardised features and, last, its intercepts:
    (d + 1) × n_classes numbers. The features themselves are never standardised: the same is
    done to the few weights.
    """

    def __init__(
        self,
        features: NDArray[np.floating],
        labels: NDArray[np.integer],
        in_training: NDArray[np.bool_],
        n_classes: int,
        c: float,
    ) -> None:
        from sklearn.preprocessing import StandardScaler

        # Half as much to read as in double precision; what rounding a product adds is no more
        # than what features that are stored in single precision have lost already.
        self.features = features.astype(np.float32)
        self.d, self.n_classes = features.shape[1], n_classes
        self.rows, self.labels = np.arange(len(labels)), labels
        scalers = [
            StandardScaler().fit(self.features[rows].astype(np.float64)) for rows in in_training
        ]
        self.means = np.array([scaler.mean_ for scaler in scalers])
        self.scales = np.array([scaler.scale_ for scaler in scalers])
        n_training = in_training.sum(axis=1)
        self.row_weights = in_training / n_training[:, None]
        present = np.array([np.isin(range(n_classes), labels[rows]) for rows in in_training])
        self.absent = np.where(present, 0.0, -np.inf)
        # Two softmax columns share a difference between them at half its squared length.
        self.penalties = np.where(present.sum(axis=1) == 2, 2, 1) / (c * n_training)

    def logits(self, points: NDArray[np.float64], splits: list[int]) -> NDArray[np.float64]:
        """Log odds of shape (n, n_splits, n_classes); −inf for a class without training rows."""
        each = points.reshape(len(splits), self.d + 1, self.n_classes)
        scaled = each[:, :-1] / self.scales[splits][:, :, None]
        shift = each[:, -1] - np.einsum("sd,sdk->sk", self.means[splits], scaled)
        columns = scaled.transpose(1, 0, 2).reshape(self.d, -1)
        product = (self.features @ columns.astype(np.float32)).reshape(-1, *shift.shape)
        return np.asarray(product + (shift + self.absent[splits]), dtype=np.float64)

    def evaluate(
        self, points: NDArray[np.float64], splits: list[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Losses of shape (n_splits,) and gradients of the shape of the points."""
        logits = self.logits(points, splits)
        of_label = logits[self.rows, :, self.labels]
        residuals, log_sums = _softmax(logits)
        rows, penalties = self.row_weights[splits].T, self.penalties[splits]
        each = points.reshape(len(splits), self.d + 1, self.n_classes)
        weights = each[:, :-1]
        # A row that is not trained on may be of a class that is absent: infinitely unlikely.
        surprise = np.where(rows > 0, log_sums - of_label, 0)
        losses = (rows * surprise).sum(axis=0) + penalties / 2 * np.square(weights).sum((1, 2))
        residuals[self.rows, :, self.labels] -= 1
        residuals *= rows[:, :, None]
        total = residuals.sum(axis=0)
        product = self.features.T @ residuals.reshape(len(residuals), -1).astype(np.float32)
        by_split = product.reshape(self.d, *total.shape).transpose(1, 0, 2)
        centred = by_split - self.means[splits][:, :, None] * total[:, None, :]
        gradients = np.empty_like(each)
        gradients[:, :-1] = centred / self.scales[splits][:, :, None]
        gradients[:, :-1] += penalties[:, None, None] * weights
        gradients[:, -1] = total
        return losses, gradients.reshape(points.shape)


class _Search:
    """L-BFGS of one split: says which point to evaluate next, and takes what it gave."""

    def __init__(self, start: NDArray[np.float64], split: int) -> None:
        self.split = split
        self.point = self.trial = start
        self.converged, self.searching = False, True
        self.n_steps = 0
        self.loss, self.slope, self.step = np.inf, 0.0, 1.0
        self.pairs: deque[tuple[NDArray[np.float64], NDArray[np.float64], float]] = deque(
            maxlen=_N_PAIRS
        )

    def take(self, loss: float, gradient: NDArray[np.float64]) -> None:
        """Go to the point that was tried, or shorten the step."""
        if self.loss == np.inf:
            self._go_on(loss, gradient)
        elif self._is_lower(loss, gradient):
            self._remember(gradient)
            self.n_steps += 1
            self._go_on(loss, gradient)
        else:
            # The lowest point of the parabola through both losses and the slope.
            rise = max(loss - self.loss, 0.0) - self.slope * self.step
            lowest = -self.slope * self.step**2 / 2 / rise
            self.step = float(np.clip(lowest, 0.1 * self.step, 0.5 * self.step))
            self.trial = self.point + self.step * self.direction
            self.searching = self.step > _SHORTEST

    def _is_lower(self, loss: float, gradient: NDArray[np.float64]) -> bool:
        """Whether the step led down enough, by the loss and, where noise hides it, the slope."""
        promised = self.loss + _SUFFICIENT * self.step * self.slope
        ends_uphill = float(self.direction @ gradient) > -_UPHILL * self.slope
        return loss <= promised + _NOISE * abs(self.loss) and not ends_uphill

    def _remember(self, gradient: NDArray[np.float64]) -> None:
        moved, changed = self.trial - self.point, gradient - self.gradient
        curvature = float(moved @ changed)
        if curvature > 0:
            self.pairs.append((moved, changed, curvature))

    def _go_on(self, loss: float, gradient: NDArray[np.float64]) -> None:
        self.point, self.loss, self.gradient = self.trial, loss, gradient
        largest = float(np.abs(gradient).max())
        self.converged = largest <= TOLERANCE
        self.searching = not self.converged and self.n_steps < MAX_ITERATIONS
        self.direction = self._downhill(gradient)
        self.slope = float(self.direction @ gradient)
        self.step = 1.0 if self.pairs else min(1.0, 1 / max(float(np.abs(gradient).sum()), 1e-300))
        self.trial = self.point + self.step * self.direction

    def _downhill(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Two loops over the remembered steps (Nocedal & Wright 2006, algorithm 7.4)."""
        direction = -gradient
        shares = []
        for moved, changed, curvature in reversed(self.pairs):
            share = float(moved @ direction) / curvature
            direction = direction - share * changed
            shares.append(share)
        if self.pairs:
            _, changed, curvature = self.pairs[-1]
            direction *= curvature / float(changed @ changed)
        for (moved, changed, curvature), share in zip(self.pairs, reversed(shares), strict=True):
            direction += (share - float(changed @ direction) / curvature) * moved
        return direction


def _softmax(logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities over the last axis, and the logarithm of the sum of exponentials."""
    largest = logits.max(axis=2, keepdims=True)
    powers = logits - largest
    np.exp(powers, out=powers)
    sums = powers.sum(axis=2, keepdims=True)
    powers /= sums
    return powers, (largest + np.log(sums))[:, :, 0]
