"""Tables as files: CSV with every digit that the database holds, LaTeX as people read them."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from orchestration.report.sections import Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "−": r"\(-\)",
    "×": r"\(\times\)",
    "→": r"\(\to\)",
    "²": r"\textsuperscript{2}",
    "–": "--",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\n": " ",
    "\r": " ",
    "\t": " ",
}
_RAISED = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True))
_LONG = 40  # rows, from which on a table must be able to break over pages


def table_csv(table: Table) -> str:
    """All rows and columns as they are in the database; numbers can be read back exactly."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.frame.columns)
    for row in table.frame.itertuples(index=False, name=None):
        writer.writerow([_csv_cell(value) for value in row])
    return buffer.getvalue()


def table_latex(table: Table) -> str:
    """All rows as people read them, with booktabs; long ones with longtable."""
    columns = "".join("r" if column.is_number else "l" for column in table.columns)
    heading = " & ".join(latex_text(column.heading) for column in table.columns) + r" \\"
    rows = [" & ".join(map(latex_text, cells)) + r" \\" for cells in table.cells()]
    caption = rf"\caption{{{latex_text(table.caption)}}}"
    label = rf"\label{{tab:{table.name.replace('_', '-')}}}"
    if len(rows) > _LONG:
        lines = [
            rf"\begin{{longtable}}{{{columns}}}",
            rf"{caption}{label}\\",
            r"\toprule", heading, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot",
            *rows,
            r"\end{longtable}",
        ]  # fmt: skip
    else:
        lines = [
            r"\begin{table}", r"\centering", caption, label,
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule", heading, r"\midrule", *rows, r"\bottomrule",
            r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    packages = "booktabs, longtable" if len(rows) > _LONG else "booktabs"
    return "\n".join([f"% needs the packages {packages}", *lines]) + "\n"


def latex_text(text: str) -> str:
    """A text that LaTeX prints as it stands, whatever is in it."""
    parts: list[str] = []
    raised = ""
    for letter in text:
        if letter in _RAISED:
            raised += _RAISED[letter]
            continue
        if raised:
            parts.append(rf"\(^{{{raised}}}\)")
            raised = ""
        parts.append(_LATEX.get(letter, letter))
    if raised:
        parts.append(rf"\(^{{{raised}}}\)")
    return "".join(parts)


def _csv_cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    return str(value)
