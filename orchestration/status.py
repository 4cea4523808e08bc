"""The state of an installation: where the database is, what is up, what each study has."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.tables import (
    Embedding,
    Experiment,
    ModelVersionRow,
    RejectRow,
    StudyEncoder,
    Tile,
)
from orchestration.home import Home
from orchestration.services import running_services


def installation_status(home: Home) -> dict[str, Any]:
    """Everything that ``ffpe status`` shows, as plain data.

    Returns
    -------
    dict
        ``database`` (place, schema, counts), ``services`` (or None) and ``studies``, one
        row an encoder of a study.
    """
    services = running_services(home)
    return {
        "home": str(home.folder),
        "database": _database(home),
        "services": None
        if services is None
        else {
            "url": services.url,
            "gallery_url": services.gallery_url,
            "studies": list(services.studies),
            "processes": [
                {"role": process.role, "pid": process.pid, "alive": process.alive}
                for process in services.processes
            ],
        },
        "studies": _studies(home),
    }


def _database(home: Home) -> dict[str, Any]:
    with Session(home.engine) as session:
        n_tiles = session.scalar(select(func.count()).select_from(Tile))
        n_versions = session.scalar(select(func.count()).select_from(ModelVersionRow))
    return {
        "place": home.url.render_as_string(hide_password=True),
        "kind": "external" if home.embedded is None else "embedded",
        "schema": schema.current(home.engine),
        "n_tiles": n_tiles,
        "n_model_versions": n_versions,
    }


def _studies(home: Home) -> list[dict[str, Any]]:
    n_embeddings = (
        select(func.count())
        .where(Embedding.model_version_id == StudyEncoder.model_version_id)
        .scalar_subquery()
    )
    n_rejects = select(func.count()).where(RejectRow.study == StudyEncoder.study).scalar_subquery()
    compared_at = (
        select(func.max(Experiment.created_at))
        .where(Experiment.study == StudyEncoder.study, Experiment.is_current)
        .scalar_subquery()
    )
    query = (
        select(
            StudyEncoder.study,
            StudyEncoder.encoder,
            ModelVersionRow.sha256,
            ModelVersionRow.dim,
            n_embeddings.label("n_embeddings"),
            n_rejects.label("n_rejects"),
            compared_at.label("compared_at"),
        )
        .join(ModelVersionRow, ModelVersionRow.model_version_id == StudyEncoder.model_version_id)
        .order_by(StudyEncoder.study, StudyEncoder.model_version_id)
    )
    with Session(home.engine) as session:
        return [
            {
                "study": row.study,
                "encoder": row.encoder,
                "model_version": row.sha256[:12],
                "n_features": row.dim,
                "n_embeddings": row.n_embeddings,
                "n_rejects_of_study": row.n_rejects,
                "compared_at": None if row.compared_at is None else row.compared_at.isoformat(),
            }
            for row in session.execute(query)
        ]
