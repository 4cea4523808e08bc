"""Where tissue comes from: patients, slides, tiles, and the data sets they are in."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import (
    Base,
    BigInt,
    Double,
    Key,
    Now,
    Sha256,
    is_sha256,
    not_empty,
    plausible_mpp,
)


class Patient(Base):
    """A person. Everything that must not stand on two sides of a split hangs on this key."""

    __tablename__ = "patients"
    __table_args__ = (
        not_empty("patient_id"),
        {"comment": "One row a patient; the unit that cross-validation keeps whole"},
    )

    patient_id: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="The source's own patient identifier, e.g. TCGA-05-4244"
    )
    patient_number: Mapped[int] = mapped_column(
        Identity(always=True), unique=True, comment="Short key for tables of millions of rows"
    )
    tissue_source_site: Mapped[str | None] = mapped_column(
        Text, comment="Hospital or biobank that gave the tissue; NULL where unknown"
    )


class Dataset(Base):
    """A set of labelled tiles, as it was read: other content is another row."""

    __tablename__ = "datasets"
    __table_args__ = (
        is_sha256("digest"),
        is_sha256("listing_sha256"),
        not_empty("name"),
        CheckConstraint("n_tiles > 0", name="n_tiles_positive"),
        {"comment": "One row a set of labelled tiles; identified by its content"},
    )

    dataset_id: Mapped[Key]
    digest: Mapped[Sha256] = mapped_column(
        unique=True, comment="SHA-256 over every tile's digest, label and patient"
    )
    name: Mapped[str] = mapped_column(Text, comment="Last two parts of the folder's path")
    root: Mapped[str] = mapped_column(Text, comment="Folder where its files were last seen")
    read_at: Mapped[Now] = mapped_column(comment="When its files were last read")
    listing_sha256: Mapped[Sha256] = mapped_column(
        comment="SHA-256 over paths, sizes and times of the folder's files when last read"
    )
    n_tiles: Mapped[BigInt] = mapped_column(comment="Number of distinct tiles")
    created_at: Mapped[Now]


class Slide(Base):
    """A whole-slide image. Its tiles are coordinates on it; pixels stay in the file."""

    __tablename__ = "slides"
    __table_args__ = (
        is_sha256("sha256"),
        plausible_mpp(),
        CheckConstraint("width_px > 0 AND height_px > 0", name="size_positive"),
        CheckConstraint("mpp_source IN ('slide', 'study')", name="mpp_source_known"),
        {"comment": "One row a slide file; identified by its bytes"},
    )

    slide_id: Mapped[Key]
    sha256: Mapped[Sha256] = mapped_column(unique=True, comment="SHA-256 of the file's bytes")
    patient_id: Mapped[str] = mapped_column(ForeignKey(Patient.patient_id), index=True)
    name: Mapped[str] = mapped_column(Text, comment="File name")
    width_px: Mapped[int] = mapped_column(comment="Width of level 0 in pixels")
    height_px: Mapped[int] = mapped_column(comment="Height of level 0 in pixels")
    mpp: Mapped[Double] = mapped_column(comment="Resolution of level 0 in µm per pixel")
    mpp_source: Mapped[str] = mapped_column(
        Text, comment="slide: read from the file; study: given in the study file"
    )


class Tile(Base):
    """One image of tissue, told by its pixels or by its place on a slide."""

    __tablename__ = "tiles"
    __table_args__ = (
        is_sha256("sha256"),
        plausible_mpp(),
        CheckConstraint(
            "num_nonnulls(slide_id, x_px, y_px) IN (0, 3)"
            " AND (slide_id IS NULL OR mpp IS NOT NULL)",
            name="place_told_whole",
        ),
        CheckConstraint("x_px >= 0 AND y_px >= 0", name="place_on_slide"),
        CheckConstraint("stain IN ('none', 'macenko')", name="stain_known"),
        CheckConstraint("width_px > 0 AND height_px > 0", name="size_positive"),
        {"comment": "One row a distinct image; belongs to the store, not to a study"},
    )

    tile_id: Mapped[Key]
    sha256: Mapped[Sha256] = mapped_column(
        unique=True,
        comment="SHA-256 over size and decoded RGB pixels; of a slide's tile over slide, place, "
        "size, mpp and stain",
    )
    width_px: Mapped[int] = mapped_column(comment="Width in pixels")
    height_px: Mapped[int] = mapped_column(comment="Height in pixels")
    mpp: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Resolution in µm per pixel; NULL where the source tells none"
    )
    patient_id: Mapped[str | None] = mapped_column(
        ForeignKey(Patient.patient_id), index=True, comment="NULL where the source names none"
    )
    slide_id: Mapped[int | None] = mapped_column(
        ForeignKey(Slide.slide_id), index=True, comment="NULL for a tile that is a file of its own"
    )
    x_px: Mapped[int | None] = mapped_column(comment="Left edge in pixels of the slide's level 0")
    y_px: Mapped[int | None] = mapped_column(comment="Top edge in pixels of the slide's level 0")
    stain: Mapped[str] = mapped_column(
        Text, server_default="none", comment="Stain normalisation before embedding"
    )


class DatasetTile(Base):
    """A tile's place in a data set: its label there and the file that holds it."""

    __tablename__ = "dataset_tiles"
    __table_args__ = (
        not_empty("label"),
        {"comment": "Which tiles a data set holds, with which label"},
    )

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"), primary_key=True
    )
    tile_id: Mapped[int] = mapped_column(ForeignKey(Tile.tile_id), primary_key=True, index=True)
    label: Mapped[str | None] = mapped_column(
        Text, index=True, comment="Class as annotated in this data set; NULL where none is"
    )
    path: Mapped[str] = mapped_column(
        Text, comment="File of the tile, or of its slide, relative to datasets.root"
    )


class StudyDataset(Base):
    """The data set that a study's source asset last read, and from what files."""

    __tablename__ = "study_datasets"
    __table_args__ = (
        not_empty("study"),
        is_sha256("listing_sha256"),
        {"comment": "Which data set each source of a study came to when it was last read"},
    )

    study: Mapped[str] = mapped_column(Text, primary_key=True, comment="Name of the study")
    asset: Mapped[str] = mapped_column(Text, primary_key=True, comment="Name of the source asset")
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"), index=True
    )
    listing_sha256: Mapped[Sha256] = mapped_column(
        comment="SHA-256 over paths, sizes and times of the files then: tells whether they changed"
    )
    updated_at: Mapped[Now] = mapped_column(comment="When the source was last read")
