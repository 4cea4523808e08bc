"""Assets of group models: every encoder of a study becomes a registered model version."""

from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.ledger import record_rejects
from orchestration.home import Home
from orchestration.metadata import picture, stored, table
from orchestration.naming import (
    FINETUNE_TILES,
    MODEL_VERSION,
    MODELS,
    SLIDE_TILES,
    asset_key,
    code_version,
    encoder_partitions,
)
from orchestration.registry import Registered, register_encoder
from orchestration.resources import transaction
from orchestration.study import Study


def model_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The model versions of a study, one partition an encoder."""
    deps = [] if study.finetune is None else [asset_key(study, FINETUNE_TILES)]
    if any(entry.features is not None for entry in study.encoders):
        deps.append(asset_key(study, SLIDE_TILES))  # imported features are of the study's slides

    @dg.asset(
        key=asset_key(study, MODEL_VERSION),
        deps=deps,
        partitions_def=encoder_partitions(study),
        group_name=MODELS,
        code_version=code_version(study.finetune, study.encoders, study.seed),
        description="An encoder's exact content: weights, input, training. Fine-tunes if need be",
        kinds={"pytorch", "postgres"},
        required_resource_keys={"home", "progress"},
        pool="training",
    )
    def model_version(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        entry = study.encoder(context.partition_key)
        registered = register_encoder(home, study, entry, context.resources.progress)
        with transaction(home) as session:
            record_rejects(session, study.name, registered.rejects, run_id=context.run.run_id)
        return _result(home, registered)

    return [model_version]


def _result(home: Home, registered: Registered) -> dg.MaterializeResult[Any]:
    version_id = registered.pointer.model_version_id
    with Session(home.engine) as session:
        version = versions.load(session, version_id)
        epochs = versions.epochs_frame(session, version_id)
    metadata: dict[str, Any] = {
        **stored("public.model_versions", 1),
        "model_version_id": version_id,
        "model_version_sha256": version.sha256,
        "weights_sha256": version.weights_sha256 or "none",
        "weights_source": version.weights_source,
        "network": version.network,
        "n_features": version.dim,
        "input_px": version.input_px,
        "precision": version.precision,
        "trained_on": version.trained_on,
        "trained_now": registered.trained_now,
    }
    if not epochs.empty:
        from analysis.figure_style import png
        from analysis.figures import training_figure

        metadata["training_curve"] = picture(png(training_figure(epochs)), "training curve")
        metadata["epochs"] = table(epochs)
    return dg.MaterializeResult(data_version=dg.DataVersion(version.sha256), metadata=metadata)
