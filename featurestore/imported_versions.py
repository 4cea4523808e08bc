"""Imported features in the store: what identifies them, and how they are written.

Where the checksum of the network's weights is known, it identifies imported features, with the
network's name and how tiles were cut, as for any encoder; values that then differ from those
that the store already has are refused. Where it is not known, nothing but the features
themselves tells one network from another, so a digest over them stands in for the weights:
other files are another model version, and the rows of two versions never mix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.embeddings import matrix, write_embeddings
from featurestore.errors import Reject, SourceError
from featurestore.imported import STAGE, ImportedSlide, ImportSettings
from featurestore.model_versions import ModelVersion, content_sha256
from featurestore.tables import DatasetTile, Embedding, Slide, Tile

NETWORK_PREFIX = "imported."
# Far above what a change of the number format does, far below what another network does.
_SAME_FEATURES = 1e-2


def is_imported(version: ModelVersion) -> bool:
    """Whether a version's features come from files, so that nothing can compute more of them."""
    return version.network.startswith(NETWORK_PREFIX)


def settle(
    imports: Sequence[ImportedSlide], settings: ImportSettings
) -> tuple[ImportSettings, tuple[ImportedSlide, ...], tuple[Reject, ...]]:
    """Settle what the study left open by what most files have: ``dim`` and ``tile_px``.

    Returns
    -------
    settings : ImportSettings
        Complete.
    kept : tuple of ImportedSlide
    rejects : tuple of Reject
        Files with another dimension or another size of tiles.

    Raises
    ------
    SourceError
        If there is no file to ask.
    """
    shapes = [(i.features.shape[1], i.tiles.settings.tile_px) for i in imports]
    counts = Counter(shapes)
    if not counts:
        raise SourceError("not one file of features can be used; see the ledger")
    # Of two that are as frequent the smaller one, so that the order of files does not matter.
    most = max(counts, key=lambda pair: (counts[pair], -pair[0], -pair[1]))
    kept, rejects = [], []
    for shape, imported in zip(shapes, imports, strict=True):
        if shape == most:
            kept.append(imported)
            continue
        reason = (
            f"holds {shape[0]} features of tiles of {shape[1]} px; most files hold {most[0]} of "
            f"{most[1]} px; it is of another network or tiling"
        )
        rejects.append(Reject(imported.path, STAGE, reason))
    return replace(settings, dim=most[0], tile_px=most[1]), tuple(kept), tuple(rejects)


def imported_version(settings: ImportSettings, digests: Sequence[str]) -> ModelVersion:
    """The model version that stands for imported features.

    Parameters
    ----------
    settings : ImportSettings
        With ``dim`` and ``tile_px`` settled.
    digests : sequence of str
        Of each slide's features (:attr:`ImportedSlide.sha256`).
    """
    if settings.dim is None or settings.tile_px is None:
        raise ValueError("dim and tile_px are not settled")
    options: dict[str, object] = {"tile_px": settings.tile_px}
    if settings.weights_sha256 is None:
        options["features_sha256"] = content_sha256(sorted(digests))
    return ModelVersion(
        network=NETWORK_PREFIX + settings.network,
        network_options=options,
        weights_sha256=settings.weights_sha256,
        input_px=settings.input_px or settings.tile_px,
        mpp=settings.mpp,
        # Whatever was done to the pixels was done elsewhere; we do nothing to them.
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="unknown",
        pooling="unknown",
        precision=settings.precision,
        dim=settings.dim,
        licence=settings.licence,
        trained_on=settings.trained_on,
        weights_source="features were imported",
    )


def write_imported(
    session: Session, model_version_id: int, dataset_id: int, imported: ImportedSlide
) -> int:
    """Write one slide's embeddings; what the store already has is left as it is.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        The caller commits.
    model_version_id : int
        Of :func:`imported_version`.
    dataset_id : int
        The data set that the slide's tiles were written to.
    imported : ImportedSlide

    Returns
    -------
    int
        Number of embeddings that are new.

    Raises
    ------
    SourceError
        If the data set lacks one of the tiles: the file has changed since.
    """
    rows = session.execute(
        select(Tile.x_px, Tile.y_px, Tile.tile_id)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .join(Slide, Slide.slide_id == Tile.slide_id)
        .where(DatasetTile.dataset_id == dataset_id, Slide.sha256 == imported.tiles.slide.sha256)
    )
    id_of = {(x_px, y_px): tile_id for x_px, y_px, tile_id in rows}
    try:
        ids = np.array([id_of[tile.x_px, tile.y_px] for tile in imported.tiles.tiles], np.int64)
    except KeyError as error:
        raise SourceError(
            f"{imported.path} has changed since its tiles were read; run the study again"
        ) from error
    return write_embeddings(session, model_version_id, ids, imported.features)


def refuse_other_values(
    session: Session, settings: ImportSettings, imported: ImportedSlide
) -> None:
    """Refuse features that the same weights gave other values of before.

    Nothing is looked at where the weights are unknown: the features then are their own identity.

    Raises
    ------
    SourceError
        If the store has other values for one of the tiles.
    """
    if settings.weights_sha256 is None:
        return
    own = replace(settings, dim=imported.features.shape[1], tile_px=imported.tiles.settings.tile_px)
    version_id = versions.find(session, imported_version(own, ()).sha256)
    if version_id is None:
        return
    row_of = {imported.tiles.place(t).sha256: row for row, t in enumerate(imported.tiles.tiles)}
    known = session.execute(
        select(Tile.sha256, Tile.tile_id)
        .join(Embedding, Embedding.tile_id == Tile.tile_id)
        .where(Embedding.model_version_id == version_id, Tile.sha256.in_(list(row_of)))
    ).all()
    if not known:
        return
    stored = matrix(session, version_id, [row.tile_id for row in known])
    apart = np.linalg.norm(stored - imported.features[[row_of[k.sha256] for k in known]], axis=1)
    other = apart > _SAME_FEATURES * np.linalg.norm(stored, axis=1)
    if other.any():
        raise SourceError(
            f"{imported.path}: {int(other.sum())} of {len(known)} tiles that the store already has "
            "under these weights have other features there; the same weights cannot have given "
            "both. Correct `weights_sha256`, or leave it out"
        )
