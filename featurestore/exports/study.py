"""Exporting a study: every table into one folder that appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.errors import InputError, StoreError
from featurestore.exports.h5ad import write_h5ad
from featurestore.exports.plan import ExportEncoder, ExportPlan
from featurestore.exports.result_tables import result_tables
from featurestore.exports.tables import patient_features, stored_tables, vectors_of, with_statement
from featurestore.exports.writers import write_csv, write_parquet
from featurestore.model_versions import canonical_json
from featurestore.molecular_frames import expression_frame, mutation_frame
from featurestore.new_folder import new_folder
from featurestore.tables import Dataset, PatientFeature

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("parquet", "csv", "h5ad")
MANIFEST = "export.json"
_MEAN = "mean"


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file of an export: its path within the folder, and its rows."""

    file: str
    n_rows: int


def export_study(
    session: Session,
    plan: ExportPlan,
    folder: Path,
    *,
    format: str,
    force: bool = False,
    on_file: Callable[[str], None] = lambda _name: None,
) -> tuple[ExportedFile, ...]:
    """Write a study's tables into a new folder; tables without a row are left out.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        Only read from. In a transaction of isolation REPEATABLE READ all files show the
        store at one moment.
    plan : ExportPlan
    folder : Path
        Appears when everything is written.
    format : str
        One of :data:`FORMATS`; h5ad is a file an encoder, of patients × features.
    force : bool
        Whether an earlier export may be replaced.
    on_file : callable
        Told of every file before it is written.

    Raises
    ------
    InputError
        If the folder is there already.
    StoreError
        If there is nothing to export.
    """
    if format not in FORMATS:
        raise InputError(f"format {format!r} is unknown; expected one of {', '.join(FORMATS)}")
    write = _anndata if format == "h5ad" else _tables
    with new_folder(folder, marker=MANIFEST, what="export", force=force) as made:
        files = tuple(write(session, plan, made, format, on_file))
        if not files:
            raise StoreError(
                f"study {plan.study!r} has nothing to export as {format} yet; `ffpe run` makes it"
                + (" (h5ad needs patients: a [luad] section)" if format == "h5ad" else "")
            )
        text = json.dumps(_manifest(session, plan, format, files), indent=2, ensure_ascii=False)
        (made / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return files


def _tables(
    session: Session, plan: ExportPlan, folder: Path, format: str, on_file: Callable[[str], None]
) -> Iterator[ExportedFile]:
    write = write_parquet if format == "parquet" else write_csv
    for table in (*stored_tables(session, plan), *result_tables(plan.study)):
        name = f"{table.name}.{format}"
        on_file(name)
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        n_rows = write(file, table, table.batches(session))
        if n_rows:
            yield ExportedFile(name, n_rows)
        else:
            file.unlink()
            if file.parent != folder and not any(file.parent.iterdir()):
                file.parent.rmdir()


def _anndata(
    session: Session, plan: ExportPlan, folder: Path, _format: str, on_file: Callable[[str], None]
) -> Iterator[ExportedFile]:
    for encoder in plan.encoders:
        for pooling, patients in _patients(session, encoder).items():
            name = f"{encoder.name}{'' if pooling == _MEAN else '.' + pooling}.h5ad"
            on_file(name)
            model = versions.load(session, encoder.model_version_id)
            table = patient_features(encoder, model.dim)
            only = table.statement.where(PatientFeature.pooling == pooling)
            batches = with_statement(table, only).batches(session)
            n_rows = write_h5ad(
                folder / name,
                obs=_obs(session, plan, patients),
                features=(vectors_of([row.features for row in b], model.dim) for b in batches),
                dim=model.dim,
                uns=_about(session, plan, encoder) | {"pooling": pooling},
            )
            yield ExportedFile(name, n_rows)


def _patients(session: Session, encoder: ExportEncoder) -> dict[str, pd.DataFrame]:
    """Patients of every pooling: site and counts, in the order of their features."""
    import pandas as pd

    if "slide_tiles" not in encoder.datasets:
        return {}
    statement = patient_features(encoder, 1).statement
    columns = ["patient_id", "tissue_source_site", "pooling", "n_tiles", "n_slides"]
    part = statement.with_only_columns(
        *(column for column in statement.selected_columns if column.key in columns),
        maintain_column_froms=True,
    )
    frame = pd.DataFrame(session.execute(part).all(), columns=columns)
    return {
        str(pooling): rows.drop(columns="pooling").set_index("patient_id")
        for pooling, rows in frame.groupby("pooling", sort=True)
    }


def _obs(session: Session, plan: ExportPlan, patients: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    ids = [str(patient) for patient in patients.index]
    parts = [patients.assign(patient_id=ids)]
    if plan.expression is not None:
        source_id, symbols = plan.expression.source_id, plan.expression.symbols
        genes = expression_frame(session, source_id, patients=ids, symbols=symbols)
        parts.append(genes.add_prefix("expression_"))
    if plan.mutation is not None:
        source_id, symbols = plan.mutation.source_id, plan.mutation.symbols
        genes = mutation_frame(session, source_id, patients=ids, symbols=symbols)
        parts.append(genes.astype("boolean").add_prefix("mutated_"))
    # HDF5 takes a slash for a folder.
    return pd.concat(parts, axis=1).rename(columns=lambda name: str(name).replace("/", "_"))


def _about(session: Session, plan: ExportPlan, encoder: ExportEncoder) -> dict[str, Any]:
    model = versions.load(session, encoder.model_version_id)
    content = asdict(model)
    digests = {
        name: session.scalars(select(Dataset.digest).where(Dataset.dataset_id == key)).one()
        for name, key in encoder.datasets.items()
    }
    return {
        "study": plan.study,
        "encoder": encoder.name,
        "ffpe_version": _ffpe_version(),
        "dataset_digests": digests,
        "model_version_sha256": model.sha256,
        "model_version": content,
        # The whole of it once more: AnnData cannot hold what is absent, JSON can.
        "model_version_json": canonical_json(content),
    }


def _manifest(
    session: Session, plan: ExportPlan, format: str, files: tuple[ExportedFile, ...]
) -> dict[str, Any]:
    encoders = {}
    for encoder in plan.encoders:
        about = _about(session, plan, encoder)
        kept = ("dataset_digests", "model_version_sha256", "model_version")
        encoders[encoder.name] = {name: about[name] for name in kept}
    return {
        "study": plan.study,
        "format": format,
        "ffpe_version": _ffpe_version(),
        "encoders": encoders,
        "files": [asdict(file) for file in files],
    }


def _ffpe_version() -> str:
    try:
        return version("ffpe")
    except PackageNotFoundError:
        return "unknown"
