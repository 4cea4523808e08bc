"""Maps of a study's data sets: which there should be, and making those that are not current."""

from __future__ import annotations

from sqlalchemy.orm import Session

from featurestore.embeddings import matrix
from featurestore.tile_maps import MapSettings, is_mapped, tiles_to_map, write_map
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.naming import evaluated_tiles
from orchestration.registry import pointer_of
from orchestration.resources import transaction
from orchestration.study import Study


def stale_maps(session: Session, study: Study, encoder: str) -> list[int]:
    """Ids of the study's data sets whose map by this encoder is absent or of other tiles.

    Raises
    ------
    StoreError
        If a data set or the encoder is not in the store yet.
    """
    version_id = pointer_of(session, study, encoder).model_version_id
    ids = [tiles_of(session, study, encoder, t).dataset_id for t in evaluated_tiles(study)]
    wanted = settings_of(study)
    return [i for i in ids if not is_mapped(session, version_id, i, wanted)]


def settings_of(study: Study) -> MapSettings:
    """How the study's maps are made."""
    from analysis import tile_map

    return MapSettings(tile_map.method(), study.seed, tile_map.N_NEIGHBOURS, tile_map.MIN_DISTANCE)


def make_maps(home: Home, study: Study, encoder: str) -> int:
    """Lay out what is stale; returns the number of points of the study's maps made now."""
    from analysis.tile_map import lay_out

    settings, n_points = settings_of(study), 0
    with transaction(home) as session:
        version_id = pointer_of(session, study, encoder).model_version_id
        for dataset_id in stale_maps(session, study, encoder):
            tile_ids = tiles_to_map(session, version_id, dataset_id, seed=settings.seed)
            if not tile_ids:
                continue
            points = lay_out(matrix(session, version_id, tile_ids), seed=settings.seed)
            n_points += write_map(session, version_id, dataset_id, settings, tile_ids, points)
    return n_points
