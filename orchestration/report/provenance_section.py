"""The report's sections on what was asked, and on what every number rests on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.figures import training_figure
from featurestore.cohort_frames import inputs_frame
from featurestore.report_frames import gene_tables_frame, training_frames
from orchestration.report.numbers import count_column, number_of, text_column
from orchestration.report.sections import Column, Figure, Section, Table
from orchestration.report.software import software_table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from featurestore.tables import Experiment

_QUESTIONS = {
    "tissue": "Whose features tell {n_classes} classes of tissue better?",
    "retrieval": "Whose features find tiles of the same kind better?",
    "expression": "Whose features predict the expression of genes better?",
    "mutation": "Whose features tell better whether a gene is mutated?",
}
_N_GENES_SHOWN = 12


def question_section(experiments: Sequence[Experiment], models: pd.DataFrame) -> Section:
    """What was asked: the questions with their settings."""
    names = ", ".join(models["encoder"])
    rows = pd.DataFrame(
        [
            {
                "task": experiment.task,
                "question": _question(experiment),
                "n_folds": experiment.n_folds,
                "n_repeats": experiment.n_repeats,
                "seed": experiment.seed,
                "settings": _settings(experiment.settings),
            }
            for experiment in experiments
        ]
    )
    table = Table(
        name="questions",
        caption="What was asked, and how.",
        frame=rows,
        columns=(
            text_column("task", "task"),
            text_column("question", "question"),
            count_column("repeats", "n_repeats"),
            count_column("folds", "n_folds"),
            Column(heading="seed", text=lambda row: str(row["seed"]), is_number=True),
            text_column("other settings", "settings"),
        ),
    )
    return Section(
        key="question",
        title="What was asked",
        sentences=(f"{number_of(len(models), 'encoder')} compared: {names}.",),
        tables=(table,),
    )


def provenance_section(
    session: Session, study: str, experiments: Sequence[Experiment], models: pd.DataFrame
) -> Section:
    """Model versions, checksums, digests of the data, seeds and runs."""
    tables = [
        _models(models),
        _data(session, study),
        _experiments(experiments),
        software_table(session),
    ]
    return Section(
        key="provenance",
        title="Provenance",
        sentences=(
            "Every number above rests on these rows of the database; a digest is a SHA-256 over "
            "the content, so the same digest is the same content.",
        ),
        tables=tuple(tables),
    )


def training_section(session: Session, study: str) -> Section | None:
    """The course of every fine-tuning."""
    figures = tuple(
        Figure(
            name=f"training_{number}",
            title=f"Course of the fine-tuning of {encoder}",
            caption="One point an epoch; no bars, since there is one run.",
            drawing=training_figure(epochs),
        )
        for number, (encoder, epochs) in enumerate(training_frames(session, study).items(), 1)
    )
    return Section(key="training", title="Fine-tuning", figures=figures) if figures else None


def when(moment: datetime) -> str:
    """A moment in UTC to the minute, wherever the page is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _question(experiment: Experiment) -> str:
    text = _QUESTIONS.get(experiment.task, experiment.task)
    return text.format(n_classes=len(experiment.classes or []))


def _settings(settings: dict[str, Any]) -> str:
    """What the other columns do not say; long lists are counted."""
    parts = []
    for name, value in sorted(settings.items()):
        if name in {"seed", "n_folds", "n_repeats", "source"} or value is None:
            continue
        if isinstance(value, list) and len(value) > _N_GENES_SHOWN:
            parts.append(f"{number_of(len(value), name.removesuffix('s'), name)}")
        elif isinstance(value, list):
            parts.append(f"{name}: {', '.join(map(str, value))}")
        else:
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            parts.append(f"{name}: {text}")
    return "; ".join(parts)


def _models(models: pd.DataFrame) -> Table:
    frame = models.drop(columns="model_version_id").copy()
    frame["training"] = [
        json.dumps(value, sort_keys=True) if isinstance(value, dict) else None
        for value in frame["training"]
    ]
    return Table(
        name="models",
        caption="Model versions: everything that can change a feature's value is in the digest.",
        frame=frame,
        columns=(
            text_column("encoder", "encoder"),
            text_column("network", "network", is_code=True),
            count_column("features", "dim"),
            text_column("trained on", "trained_on"),
            text_column("fine-tuning", "training", is_code=True),
            text_column("licence", "licence"),
            text_column("weights SHA-256", "weights_sha256", is_code=True),
            text_column("version digest", "sha256", is_code=True),
        ),
    )


def _data(session: Session, study: str) -> Table:
    tiles = inputs_frame(session, study).rename(columns={"asset": "what"})
    genes = gene_tables_frame(session, study).rename(columns={"task": "what"})
    columns = ["what", "name", "root", "digest"]
    frame = pd.concat([frame[columns] for frame in (tiles, genes) if len(frame)], ignore_index=True)
    return Table(
        name="data",
        caption="Data: digests of the content, and where the files were last seen.",
        frame=frame,
        columns=(
            Column(heading="what", text=lambda row: row["what"].replace("_", " ")),
            text_column("name", "name"),
            text_column("last seen", "root", is_code=True),
            text_column("digest", "digest", is_code=True),
        ),
    )


def _experiments(experiments: Sequence[Experiment]) -> Table:
    frame = pd.DataFrame(
        [
            {
                "task": experiment.task,
                "seed": experiment.seed,
                "computed": when(experiment.created_at),
                "dagster_run_id": experiment.dagster_run_id,
                "dataset_digest": experiment.dataset_digest,
                "digest": experiment.digest,
            }
            for experiment in experiments
        ]
    )
    return Table(
        name="experiments",
        caption="Experiments: what is shown here, the seed of its splits, and the run behind it.",
        frame=frame,
        columns=(
            text_column("task", "task"),
            Column(heading="seed", text=lambda row: str(row["seed"]), is_number=True),
            text_column("computed", "computed"),
            text_column("Dagster run", "dagster_run_id", is_code=True),
            text_column("data set digest", "dataset_digest", is_code=True),
            text_column("experiment digest", "digest", is_code=True),
        ),
    )
