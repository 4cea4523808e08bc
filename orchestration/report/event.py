"""The report in Dagster's interface: an event of the asset ``STUDY/report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.figure_style import png
from orchestration.home import Home
from orchestration.report.sections import Report

if TYPE_CHECKING:
    import dagster as dg

_ON_SCREEN_DPI = 80


def report_metadata(report: Report, folder: Path) -> dict[str, dg.MetadataValue[Any]]:
    """What the interface shows of a report: its findings, methods, tables and figures."""
    import dagster as dg

    from orchestration.metadata import picture, table

    metadata: dict[str, dg.MetadataValue[Any]] = {
        "folder": dg.MetadataValue.path(folder.absolute()),
        "findings": dg.MetadataValue.text("\n".join(report.findings)),
        "methods": dg.MetadataValue.text(report.methods),
        "experiments": dg.MetadataValue.json(dict(report.digests)),
    }
    for shown in report.tables:
        if shown.n_shown != 0:
            metadata[f"table_{shown.name}"] = table(shown.frame.head(shown.n_shown or 100))
    for figure in report.figures:
        drawn = png(figure.drawing, dpi=_ON_SCREEN_DPI)
        metadata[f"figure_{figure.name}"] = picture(drawn, figure.title)
    return metadata


def record_report(home: Home, report: Report, folder: Path) -> str | None:
    """Tell Dagster that the report was written; returns what to say where that failed.

    A reader of the database may write the report but not this event, which is only a note.
    """
    import dagster as dg
    from sqlalchemy.exc import DBAPIError

    from featurestore.model_versions import content_sha256
    from orchestration.instance import open_instance
    from orchestration.naming import REPORT

    digest = content_sha256(sorted(report.digests.items()))
    event = dg.AssetMaterialization(
        asset_key=dg.AssetKey([report.study, REPORT]),
        description="What the study found, as one page with figures and tables",
        metadata=report_metadata(report, folder),
        tags={"dagster/data_version": digest},
    )
    try:
        with open_instance(home) as instance:
            instance.report_runless_asset_event(event)
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        return f"the report is written, but Dagster's history was not told: {reason}"
    return None
