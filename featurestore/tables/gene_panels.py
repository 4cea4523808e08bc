"""Panels of tiles: what a fitted model takes for a high and for a low value of a gene."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, BigInt, Double, Now, SmallInt
from featurestore.tables.results import of_experiment_encoder
from featurestore.tables.tissue import Tile


class GenePanel(Base):
    """The model that one gene's panel shows, fitted on all of the experiment's patients."""

    __tablename__ = "gene_panels"
    __table_args__ = (
        of_experiment_encoder("gene_panels"),
        CheckConstraint("metric IN ('pearson_r', 'auroc')", name="metric_known"),
        CheckConstraint("penalty > 0", name="penalty_positive"),
        CheckConstraint("n_patients > 0 AND n_tiles > 0", name="model_of_something"),
        CheckConstraint("n_unreadable >= 0", name="n_unreadable_not_negative"),
        {"comment": "One row a best-predicted gene: the model whose tiles are in gene_panel_tiles"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="Gene symbol")
    metric: Mapped[str] = mapped_column(Text, comment="pearson_r or auroc")
    mean_score: Mapped[Double] = mapped_column(
        comment="Mean of the metric over the splits of the cross-validation; this model, fitted on "
        "all patients, has none of its own"
    )
    penalty: Mapped[Double] = mapped_column(
        comment="Of the squared weights, relative to the number of features; chosen on all patients"
    )
    mean_prediction: Mapped[Double] = mapped_column(
        comment="Prediction for the mean of all patients, in the unit of gene_panel_tiles.score"
    )
    n_patients: Mapped[int] = mapped_column(comment="Patients that the model is fitted on")
    n_tiles: Mapped[BigInt] = mapped_column(comment="Their tiles, all of which were ranked")
    n_unreadable: Mapped[int] = mapped_column(
        comment="Tiles passed over because their pixels could not be read again; rejects has them"
    )
    created_at: Mapped[Now]


class GenePanelTile(Base):
    """A tile of a panel, with a picture of its own: files may be gone when it is looked at."""

    __tablename__ = "gene_panel_tiles"
    __table_args__ = (
        ForeignKeyConstraint(
            ["experiment_id", "model_version_id", "target"],
            [GenePanel.experiment_id, GenePanel.model_version_id, GenePanel.target],
            name="fk_gene_panel_tiles_panel",
            ondelete="CASCADE",
        ),
        CheckConstraint("side IN ('high', 'low')", name="side_known"),
        CheckConstraint("rank > 0", name="rank_positive"),
        CheckConstraint("thumbnail_px > 0", name="thumbnail_px_positive"),
        CheckConstraint("substring(thumbnail, 1, 3) = '\\xffd8ff'", name="thumbnail_is_jpeg"),
        {"comment": "Tiles with the highest and lowest scores of a panel, at most one a patient"},
    )

    experiment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_version_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="Gene symbol")
    side: Mapped[str] = mapped_column(Text, primary_key=True, comment="high or low")
    rank: Mapped[SmallInt] = mapped_column(primary_key=True, comment="From 1, the most extreme")
    tile_id: Mapped[int] = mapped_column(ForeignKey(Tile.tile_id), index=True)
    score: Mapped[Double] = mapped_column(
        comment="What the model predicts of the tile alone: log2(x + 1) expression, or log odds of "
        "a mutation; its mean over a patient's tiles is the patient's prediction"
    )
    thumbnail: Mapped[bytes] = mapped_column(comment="The tile as JPEG")
    thumbnail_px: Mapped[SmallInt] = mapped_column(comment="Side of the thumbnail in pixels")
