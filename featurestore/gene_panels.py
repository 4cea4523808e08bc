"""Panels of tiles for the best-predicted genes: which genes, what is ranked, what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from sqlalchemy import ColumnElement, and_, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.tables import (
    CvScore,
    ExperimentEncoder,
    GenePanel,
    GenePanelTile,
    Predictability,
    Slide,
    Tile,
)

PANEL_STAGE = "panel"
"""Stage of the ledger for tiles that were evaluated, but could not be read again to be shown."""

MAX_Q = 0.05
"""A gene whose expression counts as predictable has a q below this."""

PANEL_COLUMNS = [
    "target", "encoder", "metric", "mean_score", "penalty", "mean_prediction", "n_patients",
    "n_tiles", "n_unreadable",
]  # fmt: skip
PANEL_TILE_COLUMNS = [
    "target", "encoder", "side", "rank", "score", "patient_id", "slide", "x_px", "y_px",
    "width_px", "mpp", "tile_sha256", "thumbnail", "thumbnail_px",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class BestGene:
    """A gene, and the encoder that predicts it best."""

    target: str
    encoder: str
    model_version_id: int
    mean_score: float


@dataclass(frozen=True, slots=True)
class PanelTile:
    """One tile of a panel, as :class:`featurestore.tables.GenePanelTile` describes it."""

    side: str
    rank: int
    tile_id: int
    score: float
    thumbnail: bytes
    thumbnail_px: int


@dataclass(frozen=True, slots=True)
class Panel:
    """One gene's model and tiles, as :class:`featurestore.tables.GenePanel` describes them."""

    target: str
    model_version_id: int
    metric: str
    mean_score: float
    penalty: float
    mean_prediction: float
    n_patients: int
    n_tiles: int
    n_unreadable: int
    tiles: tuple[PanelTile, ...]


def best_genes(
    session: Session,
    experiment_id: int,
    encoders: Sequence[str],
    *,
    metric: str,
    above: float,
    predictable: bool,
    n: int,
) -> list[BestGene]:
    """The genes with the highest mean score over the splits, each with its best encoder.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    experiment_id : int
    encoders : sequence of str
        Encoders that may stand for a gene.
    metric : str
    above : float
        The mean score must be higher: what chance gives.
    predictable : bool
        Whether only pairs of encoder and gene count that passed the permutation test.
    n : int
        At most so many genes.
    """
    mean = func.avg(CvScore.value)
    query = (
        select(CvScore.target, ExperimentEncoder.encoder, CvScore.model_version_id, mean)
        .join(ExperimentEncoder, _of_encoder(CvScore))
        .where(
            CvScore.experiment_id == experiment_id,
            CvScore.metric == metric,
            ExperimentEncoder.encoder.in_(encoders),
        )
        .group_by(
            CvScore.target,
            CvScore.model_version_id,
            ExperimentEncoder.encoder,
            ExperimentEncoder.position,
        )
        .having(mean > above)
        .order_by(mean.desc(), CvScore.target, ExperimentEncoder.position)
    )
    if predictable:
        query = query.join(
            Predictability,
            and_(
                Predictability.experiment_id == CvScore.experiment_id,
                Predictability.model_version_id == CvScore.model_version_id,
                Predictability.target == CvScore.target,
            ),
        ).where(Predictability.q < MAX_Q)
    best: dict[str, BestGene] = {}
    for row in session.execute(query):
        best.setdefault(row.target, BestGene(*row))
    return list(best.values())[:n]


def has_panels(session: Session, experiment_id: int) -> bool:
    """Whether an experiment has its panels; they are written all at once."""
    return bool(session.scalar(select(exists().where(GenePanel.experiment_id == experiment_id))))


def write_panels(session: Session, experiment_id: int, panels: Iterable[Panel]) -> int:
    """Write the panels of an experiment in place of those before; the caller commits.

    Returns
    -------
    int
        Number of tiles.
    """
    session.execute(delete(GenePanel).where(GenePanel.experiment_id == experiment_id))
    rows, tiles = [], []
    for panel in panels:
        row = asdict(panel) | {"experiment_id": experiment_id}
        key = {name: row[name] for name in ("experiment_id", "model_version_id", "target")}
        tiles += [tile | key for tile in row.pop("tiles")]
        rows.append(row)
    if rows:
        session.execute(insert(GenePanel), rows)
    if tiles:
        session.execute(insert(GenePanelTile), tiles)
    return len(tiles)


def panels_frame(session: Session, experiment_id: int) -> pd.DataFrame:
    """The panels of an experiment, the best-predicted gene first: :data:`PANEL_COLUMNS`."""
    rows = session.execute(
        select(
            GenePanel.target,
            ExperimentEncoder.encoder,
            *(getattr(GenePanel, name) for name in PANEL_COLUMNS[2:]),
        )
        .join(ExperimentEncoder, _of_encoder(GenePanel))
        .where(GenePanel.experiment_id == experiment_id)
        .order_by(GenePanel.mean_score.desc(), GenePanel.target)
    ).all()
    return pd.DataFrame(rows, columns=PANEL_COLUMNS)


def panel_tiles_frame(session: Session, experiment_id: int) -> pd.DataFrame:
    """The tiles of an experiment's panels in their order: :data:`PANEL_TILE_COLUMNS`."""
    rows = session.execute(
        select(
            GenePanelTile.target,
            ExperimentEncoder.encoder,
            GenePanelTile.side,
            GenePanelTile.rank,
            GenePanelTile.score,
            Tile.patient_id,
            Slide.name,
            Tile.x_px,
            Tile.y_px,
            Tile.width_px,
            Tile.mpp,
            Tile.sha256,
            GenePanelTile.thumbnail,
            GenePanelTile.thumbnail_px,
        )
        .join(GenePanel, _of_panel())
        .join(ExperimentEncoder, _of_encoder(GenePanel))
        .join(Tile, Tile.tile_id == GenePanelTile.tile_id)
        .outerjoin(Slide, Slide.slide_id == Tile.slide_id)
        .where(GenePanelTile.experiment_id == experiment_id)
        .order_by(
            GenePanel.mean_score.desc(),
            GenePanelTile.target,
            GenePanelTile.side,
            GenePanelTile.rank,
        )
    ).all()
    return pd.DataFrame(rows, columns=PANEL_TILE_COLUMNS)


def _of_encoder(model: type[GenePanel | CvScore]) -> ColumnElement[bool]:
    return and_(
        ExperimentEncoder.experiment_id == model.experiment_id,
        ExperimentEncoder.model_version_id == model.model_version_id,
    )


def _of_panel() -> ColumnElement[bool]:
    names = ("experiment_id", "model_version_id", "target")
    return and_(*(getattr(GenePanel, name) == getattr(GenePanelTile, name) for name in names))
