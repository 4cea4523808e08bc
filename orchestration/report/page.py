"""The report as one page: HTML that needs no network, no script and no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestration.report.published import HEADING, REFERENCE
from orchestration.report.sections import Report

_TEMPLATE = "report.html.jinja"


def report_page(report: Report, drawings: Mapping[str, bytes]) -> str:
    """Write a report as a page; the same report gives the same page.

    Parameters
    ----------
    report : Report
    drawings : mapping of str to bytes
        SVG files by the names of the figures.
    """
    environment = Environment(
        loader=PackageLoader("orchestration"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {
        # A picture of its own document: nothing in it can reach the page.
        name: f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode()}"
        for name, drawing in drawings.items()
    }
    environment.filters["jpeg_url"] = _jpeg_url
    return environment.get_template(_TEMPLATE).render(
        report=report, pictures=pictures, reference=REFERENCE, published_heading=HEADING
    )


def _jpeg_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
