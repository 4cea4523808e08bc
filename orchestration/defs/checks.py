"""Blocking checks: what must hold before anything downstream may start."""

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.embeddings import coverage, n_unsound
from featurestore.leakage import shared_tiles
from featurestore.study_datasets import study_dataset
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.naming import (
    EMBEDDINGS,
    FINETUNE_TILES,
    SLIDE_EMBEDDINGS,
    SLIDE_TILES,
    TISSUE_TILES,
    asset_key,
)
from orchestration.registry import pointer_of
from orchestration.study import Study


def study_checks(study: Study) -> list[dg.AssetChecksDefinition]:
    """The checks of a study."""
    evaluated = [] if study.tissue is None else [(TISSUE_TILES, EMBEDDINGS)]
    evaluated += [] if study.luad is None else [(SLIDE_TILES, SLIDE_EMBEDDINGS)]
    checks = []
    for tiles, embeddings in evaluated:
        checks.append(_embeddings_sound(study, tiles, embeddings))
        if study.finetune is not None:
            checks.append(_no_tile_on_both_sides(study, tiles))
    return checks


def _embeddings_sound(study: Study, tiles: str, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(study, name),
        name="complete_finite_right_dimension",
        description="Every tile has a finite, non-zero vector, or a reason in the ledger",
        blocking=True,
        required_resource_keys={"home"},
    )
    def complete(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        home: Home = context.resources.home
        partition = context.run.tags.get("dagster/partition")
        encoders = [partition] if partition else [entry.name for entry in study.encoders]
        failures, dims, n_tiles = [], {}, 0
        with Session(home.engine) as session:
            for encoder in encoders:
                dataset = tiles_of(session, study, encoder, tiles)
                version_id = pointer_of(session, study, encoder).model_version_id
                found = coverage(session, version_id, dataset.dataset_id, study.name)
                unsound = n_unsound(session, version_id, dataset.dataset_id)
                n_tiles += found.n_embedded
                # A constraint of each partition: a wrong dimension cannot be stored.
                dims[encoder] = versions.load(session, version_id).dim
                if found.n_missing or unsound:
                    failures.append(
                        f"{encoder}: {found.n_missing} tiles without a vector or a reason, "
                        f"{unsound} vectors that are zero or not finite"
                    )
        return dg.AssetCheckResult(
            passed=not failures,
            description="; ".join(failures) or f"{n_tiles} vectors are sound",
            metadata={"n_embeddings": n_tiles, "dimensions": dims},
        )

    return complete


def _no_tile_on_both_sides(study: Study, tiles: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(study, tiles),
        additional_deps=[asset_key(study, FINETUNE_TILES)],
        name="not_in_the_fine_tuning_set",
        description="No tile, and no patient, is both fine-tuned and evaluated on",
        blocking=True,
        required_resource_keys={"home"},
    )
    def disjoint(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        home: Home = context.resources.home
        with Session(home.engine) as session:
            training = study_dataset(session, study.name, FINETUNE_TILES)
            dataset = study_dataset(session, study.name, tiles)
            shared = shared_tiles(session, [training.digest], dataset.dataset_id)
        return dg.AssetCheckResult(
            passed=not shared,
            description=(
                f"{len(shared)} tiles (or other tiles of their patients) are in both sets: "
                f"{', '.join(shared[:3])}. Remove them from one."
                if shared
                else "the two sets share no tile and no patient"
            ),
            metadata={"n_shared": len(shared)},
        )

    return disjoint
