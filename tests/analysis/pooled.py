"""Features like a network's, for the tests of classifiers."""

import numpy as np


def pooled_features(n, d, n_classes, seed=0, noise=1.0):
    """Like a network's pooled features: non-negative, correlated, some of them dead."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    latent = 2 * rng.normal(size=(n_classes, 12))[labels] + noise * rng.normal(size=(n, 12))
    features = np.maximum(latent @ rng.normal(size=(12, d)) + 0.3 * rng.normal(size=(n, d)), 0)
    features[:, :3] = 0
    return features.astype(np.float32), labels
