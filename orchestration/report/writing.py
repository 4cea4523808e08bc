"""Writing a report: a folder with the page, its figures and its tables, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis.figure_style import png, svg
from featurestore.new_folder import new_folder
from orchestration.report.page import report_page
from orchestration.report.sections import Report
from orchestration.report.tables import table_csv, table_latex

MANIFEST = "report.html"
"""The page itself, by which a folder is known to be a report."""

_PRINT_DPI = 300


def write_report(report: Report, folder: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Write a report into a new folder.

    Parameters
    ----------
    report : Report
    folder : Path
        Appears when everything is written: ``report.html``, ``figures/`` (SVG, PNG),
        ``tables/`` (CSV, LaTeX) and ``methods.txt``.
    force : bool
        Whether an earlier report may be replaced.

    Returns
    -------
    tuple of Path
        The files, relative to the folder, in the order of the page.

    Raises
    ------
    InputError
        If the folder is there already.
    """
    with new_folder(folder, marker=MANIFEST, what="report", force=force) as made:
        files = dict(_files(report))
        for name, content in files.items():
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_bytes(content)
    return tuple(map(Path, files))


def _files(report: Report) -> Iterator[tuple[str, bytes]]:
    drawings = {figure.name: svg(figure.drawing) for figure in report.figures}
    yield MANIFEST, report_page(report, drawings).encode()
    yield "methods.txt", f"{report.methods}\n".encode()
    for figure in report.figures:
        yield f"figures/{figure.name}.svg", drawings[figure.name]
        yield f"figures/{figure.name}.png", png(figure.drawing, dpi=_PRINT_DPI)
    for panel in report.panels:
        yield f"figures/{panel.name}.svg", svg(panel.drawing)
        yield f"figures/{panel.name}.png", png(panel.drawing, dpi=_PRINT_DPI)
    for table in report.tables:
        yield f"tables/{table.name}.csv", table_csv(table).encode()
        yield f"tables/{table.name}.tex", table_latex(table).encode()
