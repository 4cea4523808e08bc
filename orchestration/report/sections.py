"""What a report is made of: sections with sentences, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

Row = Mapping[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table as people read it.

    Attributes
    ----------
    heading : str
    text : callable
        What stands in a row, given all of it as the database holds it.
    is_number : bool
        Set to the right.
    is_code : bool
        A digest or a name of a program, that may be broken anywhere.
    """

    heading: str
    text: Callable[[Row], str]
    is_number: bool = False
    is_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: rows in full for CSV, and columns that people read on the page and in LaTeX.

    Attributes
    ----------
    name : str
        Stem of its files.
    caption : str
    frame : DataFrame
        As the database holds it.
    columns : tuple of Column
    n_shown : int, optional
        Rows on the page; the files have all of them.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    n_shown: int | None = None

    def cells(self, n_rows: int | None = None) -> list[list[str]]:
        """The texts of the first rows, or of all."""
        shown = self.frame if n_rows is None else self.frame.head(n_rows)
        return [
            [column.text(row) for column in self.columns] for row in shown.to_dict(orient="records")
        ]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its caption, which says what its bars and bands are.

    Attributes
    ----------
    name : str
        Stem of its files.
    title, caption : str
    drawing : matplotlib.figure.Figure
    """

    name: str
    title: str
    caption: str
    drawing: Drawing

    @property
    def is_wide(self) -> bool:
        """Whether it needs the whole width of a page to be legible."""
        return bool(self.drawing.get_figwidth() > 7)


@dataclass(frozen=True, kw_only=True)
class TilePicture:
    """A tile as the database keeps it.

    Attributes
    ----------
    jpeg : bytes
    alt : str
        Whose it is and where it lies.
    score : str
        What stands below it.
    """

    jpeg: bytes
    alt: str
    score: str


@dataclass(frozen=True, kw_only=True)
class TilePanel:
    """Rows of tiles for one gene: pictures on the page, a drawing in the files.

    Attributes
    ----------
    name : str
        Stem of its files.
    title, caption : str
    sides : mapping of str to tuple of TilePicture
        By heading.
    drawing : matplotlib.figure.Figure
    """

    name: str
    title: str
    caption: str
    sides: Mapping[str, tuple[TilePicture, ...]]
    drawing: Drawing


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the report.

    Attributes
    ----------
    key : str
        Anchor on the page.
    title : str
    sentences, warnings : tuple of str
    published : tuple of str
        What the paper published, on other data.
    figures, tables : tuple
    panels : tuple of TilePanel
        After the tables, under ``panels_told``, the sentences that they are read by.
    steps : tuple of Step
        The flow of the cohort.
    """

    key: str
    title: str
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    steps: tuple[Step, ...] = ()
    panels: tuple[TilePanel, ...] = ()
    panels_told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of the cohort's flow: how many went in, and what was lost there."""

    title: str
    counts: tuple[str, ...]
    losses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes
    ----------
    study : str
    computed : str
        When the newest of its results was computed.
    findings : tuple of str
        The answers, each with its interval.
    sections : tuple of Section
    methods : str
        A paragraph to paste.
    """

    study: str
    computed: str
    findings: tuple[str, ...]
    sections: tuple[Section, ...]
    methods: str
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, in the order of the page."""
        return tuple(figure for section in self.sections for figure in section.figures)

    @property
    def panels(self) -> tuple[TilePanel, ...]:
        """All panels of tiles, in the order of the page."""
        return tuple(panel for section in self.sections for panel in section.panels)

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables, in the order of the page."""
        return tuple(table for section in self.sections for table in section.tables)
