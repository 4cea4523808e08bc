"""What neighbours a page shows: the form that asks for them, and the search that finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import Query
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featurestore.browse import NamedVersion
from featurestore.errors import InputError, StoreError
from featurestore.search import SearchResult, similar

MAX_ID = 2**63 - 1
MAX_NEIGHBOURS = 60

OptionalId = Annotated[int | None, Query(ge=1, le=MAX_ID)]


@dataclass(frozen=True)
class Asked:
    """What neighbours are asked for, the same for a stored tile and for an uploaded image."""

    encoder: int | None = None
    other: int | None = None
    k: int = 12
    label: str | None = None
    others_only: bool = False
    here_only: bool = False

    def versions(self, known: list[NamedVersion]) -> list[NamedVersion]:
        """The model versions to ask, one or two.

        Raises
        ------
        StoreError
            If the store has no such version.
        """
        by_id = {version.model_version_id: version for version in known}
        ids = [version for version in (self.encoder, self.other) if version is not None]
        for unknown in set(ids) - by_id.keys():
            raise StoreError(f"no study has an encoder of model version {unknown}")
        return [by_id[version] for version in ids]


def asked(
    encoder: OptionalId = None,
    other: Annotated[str, Query(pattern=r"^\d{0,18}$")] = "",
    k: Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS)] = 12,
    label: Annotated[str, Query(max_length=200)] = "",
    others_only: bool = False,
    here_only: bool = False,
) -> Asked:
    """Read the form; an empty field is one that was left out."""
    second = int(other) if other else None
    return Asked(encoder, second, k, label or None, others_only, here_only)


@dataclass(frozen=True)
class Column:
    """The neighbours by one encoder."""

    version: NamedVersion
    result: SearchResult


def neighbours(
    session: Session,
    version: NamedVersion,
    asked: Asked,
    *,
    tile_id: int | None = None,
    vector: NDArray[np.float32] | None = None,
    dataset: str | None = None,
) -> Column:
    """Search with a tile of the store, or with an image's features."""
    result = similar(
        session,
        model_version_id=version.model_version_id,
        tile_id=tile_id,
        vector=vector,
        k=asked.k,
        label=asked.label,
        dataset=dataset,
        exclude_same_patient=asked.others_only and tile_id is not None,
    )
    return Column(version, result)


def asked_by_form(fields: dict[str, str]) -> Asked:
    """Read the fields of an upload.

    Raises
    ------
    InputError
        If they are not those of the page.
    """
    try:
        encoder = int(fields.get("encoder", ""))
        other = int(fields["other"]) if fields.get("other") else None
        k = int(fields.get("k", "12"))
    except ValueError as error:
        raise InputError(f"the form cannot be read: {error}") from error
    return Asked(encoder, other, min(k, MAX_NEIGHBOURS), fields.get("label") or None)
