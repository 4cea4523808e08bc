"""The clinical baseline: age, sex and stage as features, to be beaten by those of tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CohortError
from featurestore.model_versions import ModelVersion

if TYPE_CHECKING:
    import pandas as pd

CLINICAL = "clinical"
VARIABLES = ("age", "sex", "stage")
_NUMERIC = {"age"}


def clinical_matrix(clinical: pd.DataFrame) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Clinical variables as numbers: as they are, or one column a category.

    Nothing is fitted here: a missing number becomes 0 with a column of its own that says so,
    and a missing category is a category. Scaling is left to the training fold.

    Parameters
    ----------
    clinical : DataFrame of shape (n, n_variables)
        Text by patient, None where missing; see
        :func:`featurestore.molecular_frames.clinical_frame`.

    Returns
    -------
    matrix : ndarray of shape (n, d), float32
    columns : tuple of str
        What each column is, e.g. ``"sex = female"``.

    Raises
    ------
    CohortError
        If there is no variable, or a number cannot be read as one.
    """
    import pandas as pd

    columns: dict[str, NDArray[np.float32]] = {}
    for name in clinical.columns:
        values = clinical[name]
        missing = values.isna().to_numpy()
        if name in _NUMERIC:
            numbers = pd.to_numeric(values, errors="coerce")
            bad = numbers.isna().to_numpy() & ~missing
            if bad.any():
                raise CohortError(
                    f"{name} of patient {clinical.index[bad][0]} is {values[bad].iloc[0]!r}; "
                    "expected a number"
                )
            columns[name] = numbers.fillna(0).to_numpy(dtype=np.float32)
        else:
            for category in sorted(set(values[~missing])):
                columns[f"{name} = {category}"] = (values == category).to_numpy(np.float32)
        # Kept even where nobody misses it, so that the columns do not depend on who is asked for.
        columns[f"{name} missing"] = missing.astype(np.float32)
    if not columns:
        raise CohortError(f"no clinical variable is given; expected {', '.join(VARIABLES)}")
    return np.stack(list(columns.values()), axis=1), tuple(columns)


def clinical_version(source_digest: str, columns: tuple[str, ...]) -> ModelVersion:
    """The model version that stands for these features beside the encoders' own."""
    return ModelVersion(
        network="clinical.one_hot",
        network_options={"columns": list(columns), "source": source_digest},
        weights_sha256=None,
        input_px=1,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        interpolation="none",
        pooling="none",
        precision="float32",
        dim=len(columns),
        licence="none: nothing is learnt",
        trained_on="nothing",
        weights_source="none: nothing is learnt",
    )
