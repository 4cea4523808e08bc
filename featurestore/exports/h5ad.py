"""Writing patients × features as AnnData (h5ad), by its specification of files.

The layout is that of anndata 0.8 and newer (anndata.readthedocs.io, "On-disk format"), which
any newer version reads. Writing it here costs a page of code; the library would be one more
dependency, and could not write a matrix row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

_TEXT = h5py.string_dtype()


def write_h5ad(
    file: Path,
    *,
    obs: pd.DataFrame,
    features: Iterable[NDArray[np.float32]],
    dim: int,
    uns: Mapping[str, Any],
) -> int:
    """Write one AnnData object.

    Parameters
    ----------
    file : Path
    obs : DataFrame
        A row a patient, indexed by patient. Columns of text become categories; nullable
        booleans keep what is missing, and so do numbers as NaN.
    features : iterable of (m, dim) array
        Some rows at a time, in the order of ``obs``.
    dim : int
        Number of features.
    uns : mapping
        Text, numbers, lists and mappings of these; None is left out, which AnnData cannot hold.

    Returns
    -------
    int
        Number of patients.
    """
    # Attributes beyond 64 KiB, such as the names of thousands of genes, need format 1.8.
    with h5py.File(file, "w", libver=("v108", "latest")) as opened:
        _encode(opened, "anndata", "0.1.0")
        shape = (len(obs), dim)
        matrix = opened.create_dataset(
            "X", shape, np.float32, chunks=(1, dim) if len(obs) else None, compression="gzip"
        )
        _encode(matrix, "array", "0.2.0")
        row = 0
        for vectors in features:
            matrix[row : row + len(vectors)] = vectors
            row += len(vectors)
        if row != len(obs):
            raise ValueError(f"{row} vectors for {len(obs)} patients")
        _frame(opened, "obs", obs)
        _index_only(opened, "var", [f"f{at}" for at in range(dim)])
        _mapping(opened, "uns", uns)
        for empty in ("layers", "obsm", "obsp", "varm", "varp"):
            _mapping(opened, empty, {})
    return row


def _encode(where: Any, kind: str, version: str) -> None:
    where.attrs["encoding-type"] = kind
    where.attrs["encoding-version"] = version


def _text(group: h5py.Group, name: str, values: Iterable[str]) -> None:
    _encode(group.create_dataset(name, data=list(values), dtype=_TEXT), "string-array", "0.2.0")


def _array(group: h5py.Group, name: str, values: Any) -> None:
    _encode(group.create_dataset(name, data=np.asarray(values)), "array", "0.2.0")


def _index_only(group: h5py.Group, name: str, index: Sequence[str]) -> None:
    made = group.create_group(name)
    _encode(made, "dataframe", "0.2.0")
    made.attrs["_index"] = "_index"
    made.attrs["column-order"] = np.array([], dtype=np.float64)  # as anndata writes none
    _text(made, "_index", index)


def _frame(group: h5py.Group, name: str, frame: pd.DataFrame) -> None:
    _index_only(group, name, [str(label) for label in frame.index])
    made = group[name]
    made.attrs.create("column-order", [str(c) for c in frame.columns], dtype=_TEXT)
    for column in frame.columns:
        _column(made, str(column), frame[column])


def _column(group: h5py.Group, name: str, values: pd.Series[Any]) -> None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        _array(group, name, values.to_numpy())
        return
    made = group.create_group(name)
    if isinstance(values.dtype, pd.BooleanDtype):
        _encode(made, "nullable-boolean", "0.1.0")
        _array(made, "values", values.to_numpy(dtype=bool, na_value=False))
        _array(made, "mask", values.isna().to_numpy())
        return
    codes, categories = pd.factorize(values, sort=True)
    _encode(made, "categorical", "0.2.0")
    made.attrs["ordered"] = False
    _array(made, "codes", codes.astype(np.int32))
    _text(made, "categories", [str(category) for category in categories])


def _mapping(group: h5py.Group, name: str, values: Mapping[str, Any]) -> None:
    made = group.create_group(name)
    _encode(made, "dict", "0.1.0")
    for key, value in values.items():
        if isinstance(value, Mapping):
            _mapping(made, key, value)
        elif isinstance(value, str):
            _encode(made.create_dataset(key, data=value, dtype=_TEXT), "string", "0.2.0")
        elif isinstance(value, bool | int | float):
            _encode(made.create_dataset(key, data=value), "numeric-scalar", "0.2.0")
        elif isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
            _text(made, key, value)
        elif value is not None:
            _array(made, key, value)
