"""Leakage that the store can tell by itself: by keys, without looking at a pixel or a feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, literal, or_, select, true
from sqlalchemy.orm import Session, aliased

from featurestore.sources import barcodes
from featurestore.tables import (
    CvGenePrediction,
    CvPrediction,
    Dataset,
    DatasetTile,
    Experiment,
    Patient,
    Slide,
    Tile,
)
from featurestore.versions import trained_on_digests


def tiles_trained_on(session: Session, model_version_id: int, dataset_id: int) -> Sequence[str]:
    """Tiles of a data set that a version, or any version it descends from, has seen.

    See :func:`shared_tiles` for what counts.
    """
    return shared_tiles(session, trained_on_digests(session, model_version_id), dataset_id)


def shared_tiles(session: Session, digests: Sequence[str], dataset_id: int) -> Sequence[str]:
    """Tiles of a data set that stand in other data sets too, themselves or by their patient.

    A tile counts if the very image is in one of the others, or if another tile of the same
    patient is.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    digests : sequence of str
        The other data sets.
    dataset_id : int

    Returns
    -------
    sequence of str
        Paths of the tiles within the data set, sorted.
    """
    if not digests:
        return []
    other_tile, other_member = aliased(Tile), aliased(DatasetTile)
    other = (
        select(other_tile.tile_id, other_tile.patient_id)
        .join(other_member, other_member.tile_id == other_tile.tile_id)
        .join(Dataset, Dataset.dataset_id == other_member.dataset_id)
        .where(Dataset.digest.in_(digests))
        .cte("other")
    )
    return list(
        session.scalars(
            select(DatasetTile.path)
            .join(Tile, Tile.tile_id == DatasetTile.tile_id)
            .where(
                DatasetTile.dataset_id == dataset_id,
                or_(
                    Tile.tile_id.in_(select(other.c.tile_id)),
                    Tile.patient_id.in_(select(other.c.patient_id)),
                ),
            )
            .order_by(DatasetTile.path)
        )
    )


def slides_of_two_patients(session: Session, dataset_id: int) -> Sequence[str]:
    """Slides of a data set whose tiles stand under two patients, and how that is told.

    Three ways lead there: a tile was given for another patient than its slide; two slide files
    of one name were given for two patients; a file's TCGA barcode names another patient than
    the slide was given for.

    Returns
    -------
    sequence of str
        One sentence a slide, sorted.
    """
    rows = session.execute(
        select(Slide.slide_id, Slide.name, Slide.patient_id, Tile.patient_id.label("of_tile"))
        .join(Tile, Tile.slide_id == Slide.slide_id)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
        .distinct()
        .order_by(Slide.name, Slide.patient_id, Tile.patient_id)
    ).all()
    patients_of_name: dict[str, set[str]] = {}
    for row in rows:
        patients_of_name.setdefault(row.name, set()).add(row.patient_id)
    found = [
        f"{row.name}: given for {row.patient_id}, but tiles of it for {row.of_tile or 'nobody'}"
        for row in rows
        if row.of_tile != row.patient_id
    ]
    found += [
        f"{name}: files of this name are given for {' and '.join(sorted(patients))}"
        for name, patients in patients_of_name.items()
        if len(patients) > 1
    ]
    for row in {row.slide_id: row for row in rows}.values():
        named = {barcode.patient_id for barcode in barcodes.find(row.name)}
        if named and barcodes.parse(row.patient_id) and row.patient_id not in named:
            found.append(
                f"{row.name}: its barcode names {' and '.join(sorted(named))}, it was given for "
                f"{row.patient_id}"
            )
    return sorted(found)


def units_on_two_sides(session: Session, experiment_id: int) -> Sequence[str]:
    """Patients (and sites, where folds keep them whole) that stand in two folds of a repeat.

    Looks at the folds as they were stored, however they were made.

    Returns
    -------
    sequence of str
        One sentence a patient or site, sorted.
    """
    experiment = session.get_one(Experiment, experiment_id)
    found = _patients_of_tiles(session, experiment_id) + _patients_of_genes(session, experiment_id)
    if experiment.settings.get("group") == "site":
        found += _sites_of_genes(session, experiment_id)
    return sorted(found)


def _patients_of_tiles(session: Session, experiment_id: int) -> list[str]:
    in_two_folds = (
        select(Tile.patient_id, CvPrediction.repeat)
        .join(Tile, Tile.tile_id == CvPrediction.tile_id)
        .where(CvPrediction.experiment_id == experiment_id, Tile.patient_id.is_not(None))
        .group_by(Tile.patient_id, CvPrediction.repeat, CvPrediction.target)
        .having(func.count(CvPrediction.fold.distinct()) > 1)
        .subquery()
    )
    return _sentences(session, in_two_folds.c.patient_id, in_two_folds.c.repeat, "patient")


def _patients_of_genes(session: Session, experiment_id: int) -> list[str]:
    # One row holds a patient's folds of all repeats; encoders have rows of their own, and may
    # not disagree about them.
    disagree = (
        select(CvGenePrediction.patient_id, literal(0).label("repeat"))
        .where(CvGenePrediction.experiment_id == experiment_id)
        .group_by(CvGenePrediction.patient_id, CvGenePrediction.target)
        .having(func.count(CvGenePrediction.folds.distinct()) > 1)
        .subquery()
    )
    return _sentences(session, disagree.c.patient_id, disagree.c.repeat, "patient")


def _sites_of_genes(session: Session, experiment_id: int) -> list[str]:
    fold = func.unnest(CvGenePrediction.folds).table_valued(
        "fold", with_ordinality="repeat", name="held_out"
    )
    fold = fold.render_derived()
    in_two_folds = (
        select(Patient.tissue_source_site, fold.c.repeat)
        .select_from(CvGenePrediction)
        .join(Patient, Patient.patient_id == CvGenePrediction.patient_id)
        .join(fold, true())
        .where(CvGenePrediction.experiment_id == experiment_id, fold.c.fold >= 0)
        .group_by(Patient.tissue_source_site, fold.c.repeat, CvGenePrediction.target)
        .having(func.count(fold.c.fold.distinct()) > 1)
        .subquery()
    )
    return _sentences(session, in_two_folds.c.tissue_source_site, in_two_folds.c.repeat, "site")


def _sentences(
    session: Session, unit: ColumnElement[Any], repeat: ColumnElement[Any], what: str
) -> list[str]:
    rows = session.execute(select(unit, func.count(repeat.distinct())).group_by(unit))
    return [f"{what} {name} is in two folds of {n} repeat(s)" for name, n in rows]
