"""Search codes: short vectors that find a tile's neighbours, which full vectors then rank."""

from __future__ import annotations

from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, LargeBinary
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, BigInt, Double, Now
from featurestore.tables.encoders import Embedding, ModelVersionRow
from featurestore.tables.tissue import Dataset


def _of_embedding(table: str) -> ForeignKeyConstraint:
    """The row belongs to an embedding, and goes with it."""
    return ForeignKeyConstraint(
        ["model_version_id", "tile_id"],
        [Embedding.model_version_id, Embedding.tile_id],
        name=f"fk_{table}_embedding",
        ondelete="CASCADE",
    )


class SearchProjection(Base):
    """How one model version's embeddings become codes: principal components of unit vectors.

    Code distance can only be smaller than the true one, since an orthogonal projection
    shortens: half the squared distance of two codes is at most their cosine distance.
    """

    __tablename__ = "search_projections"
    __table_args__ = (
        CheckConstraint("code_dim BETWEEN 1 AND 256 AND code_dim <= dim", name="code_dim_range"),
        CheckConstraint("n_sample > 0 AND n_sample <= n_at_fit", name="n_sample_range"),
        CheckConstraint("explained_variance BETWEEN 0 AND 1", name="explained_variance_range"),
        CheckConstraint("octet_length(mean) = 4 * dim", name="mean_whole"),
        CheckConstraint("octet_length(components) = 4 * dim * code_dim", name="components_whole"),
        {"comment": "One row a model version with search codes; see search_codes"},
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id, ondelete="CASCADE"), primary_key=True
    )
    dim: Mapped[int] = mapped_column(comment="Number of features, as in model_versions")
    code_dim: Mapped[int] = mapped_column(comment="Number of principal components kept")
    mean: Mapped[bytes] = mapped_column(
        LargeBinary, comment="Mean of the sample's unit vectors: dim little-endian float32"
    )
    components: Mapped[bytes] = mapped_column(
        LargeBinary, comment="code_dim orthonormal rows of dim little-endian float32 each"
    )
    n_sample: Mapped[BigInt] = mapped_column(comment="Embeddings that it was fitted on")
    n_at_fit: Mapped[BigInt] = mapped_column(comment="Embeddings that there were then")
    seed: Mapped[BigInt] = mapped_column(comment="Seed of the sample")
    explained_variance: Mapped[Double] = mapped_column(
        comment="Share of the sample's variance that the components keep, 0-1"
    )
    created_at: Mapped[Now]


class SearchCode(Base):
    """One tile's search code under one model version, partitioned as the embeddings are."""

    __tablename__ = "search_codes"
    __table_args__ = (
        _of_embedding("search_codes"),
        {
            "postgresql_partition_by": "LIST (model_version_id)",
            "comment": "Codes that tiles are found by; one partition a model version, with HNSW",
        },
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(SearchProjection.model_version_id), primary_key=True
    )
    tile_id: Mapped[BigInt] = mapped_column(primary_key=True)
    code: Mapped[Any] = mapped_column(
        HALFVEC(), nullable=False, comment="Projected unit vector, code_dim values"
    )


class SearchPending(Base):
    """A tile whose embedding has no code yet; a trigger on ``embeddings`` enters it.

    Search compares these tiles exactly, so that a new tile is found from the moment it is
    embedded, whoever wrote it.
    """

    __tablename__ = "search_pending"
    __table_args__ = (
        _of_embedding("search_pending"),
        {"comment": "Embeddings of indexed model versions that still have no search code"},
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(SearchProjection.model_version_id, ondelete="CASCADE"), primary_key=True
    )
    tile_id: Mapped[BigInt] = mapped_column(primary_key=True)


class RetrievalQuality(Base):
    """How good a model version is as a search engine over one data set."""

    __tablename__ = "retrieval_quality"
    __table_args__ = (
        CheckConstraint("n_queries > 0 AND n_tiles >= n_queries", name="n_queries_range"),
        CheckConstraint("recall_at_10 BETWEEN 0 AND 1", name="recall_range"),
        CheckConstraint("majority_accuracy_at_5 BETWEEN 0 AND 1", name="majority_range"),
        CheckConstraint("map_at_5 BETWEEN 0 AND 1", name="map_range"),
        CheckConstraint("same_site_share BETWEEN 0 AND 1", name="same_site_range"),
        CheckConstraint("same_site_by_chance BETWEEN 0 AND 1", name="same_site_chance_range"),
        CheckConstraint(
            "num_nonnulls(same_site_share, same_site_by_chance) IN (0, 2)", name="site_told_whole"
        ),
        CheckConstraint("p50_ms > 0 AND p95_ms >= p50_ms", name="latency_range"),
        {"comment": "Retrieval quality: one row a model version and data set"},
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id, ondelete="CASCADE"), primary_key=True
    )
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"), primary_key=True
    )
    n_tiles: Mapped[BigInt] = mapped_column(comment="Embedded tiles of the data set then")
    n_queries: Mapped[int] = mapped_column(comment="Tiles that were searched with")
    seed: Mapped[BigInt] = mapped_column(comment="Seed of the choice of queries")
    recall_at_10: Mapped[Double] = mapped_column(
        comment="Share of the exact ten nearest tiles that search finds, over the whole store"
    )
    majority_accuracy_at_5: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION,
        comment="Share of queries whose five nearest vote for their label; NULL: no labels",
    )
    map_at_5: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION,
        comment="Mean average precision of labels among the five nearest; NULL: no labels",
    )
    same_site_share: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION,
        comment="Share of the five nearest that are of the query's site; NULL: no sites",
    )
    same_site_by_chance: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION,
        comment="The same share among all tiles of other patients",
    )
    patients_excluded: Mapped[bool] = mapped_column(
        comment="True where hits of the query's patient were left out; false: patients unknown"
    )
    p50_ms: Mapped[Double] = mapped_column(comment="Median time of a search in milliseconds")
    p95_ms: Mapped[Double] = mapped_column(comment="95th percentile of the same")
    created_at: Mapped[Now]
