"""The report of a study: one page, its figures and its tables, from the database alone."""

from orchestration.report.build import build_report
from orchestration.report.page import report_page
from orchestration.report.writing import MANIFEST, write_report

__all__ = ["MANIFEST", "build_report", "report_page", "write_report"]
