"""Owns the table that tells which patient an image is of.

A CSV with the columns ``file`` and ``patient``. A wrong patient makes folds leak without a
trace, so anything ambiguous in it stops the reading; a row about an absent image only goes to
the ledger.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from featurestore.errors import Reject, SourceError
from featurestore.sources import packed_text
from featurestore.sources.barcodes import LONGEST_NAME, shown, some


def read_patients(
    table: Path, root: Path, images: Sequence[str]
) -> tuple[dict[str, str], list[Reject]]:
    """Patient of each image that the table names, and the rows that name no image.

    Parameters
    ----------
    table : Path
        CSV in UTF-8 with the columns ``file`` (path relative to ``root``, or a bare name that
        only one image has) and ``patient``; other columns are not looked at.
    root : Path
        The folder that the images lie under.
    images : sequence of str
        Paths of all images, relative to ``root``.

    Returns
    -------
    patient_of : dict
        Image path to patient; images without a row are absent.
    rejects : list of Reject
        Rows that match no image.

    Raises
    ------
    SourceError
        If the table is absent or malformed, a bare name fits several images, or an image is
        given two patients; the message names the row.
    """
    by_name = defaultdict(list)
    for path in images:
        by_name[path.rpartition("/")[2]].append(path)
    known = set(images)
    patient_of: dict[str, str] = {}
    rejects = []
    for row, file, patient in _rows(table):
        where = f"patients table {table}, row {row}"
        matches = [file] if file in known else by_name.get(file, [])
        if len(matches) > 1:
            raise SourceError(
                f"{where}: {file!r} is the name of {len(matches)} images ({matches[0]}, "
                f"{matches[1]}, …); expected one; write the path relative to {root}"
            )
        if not matches:
            reason = f"row {row} of {table.name} names an image that is not under {root}"
            reason += "; correct the path or remove the row"
            rejects.append(Reject(shown(file), "ingest", reason))
        elif patient_of.setdefault(matches[0], patient) != patient:
            raise SourceError(
                f"{where}: {file!r} has patient {patient!r}, but an earlier row says "
                f"{patient_of[matches[0]]!r}; expected one patient an image; remove the wrong row"
            )
    return patient_of, rejects


def _rows(table: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, file and patient of each row; blank rows are skipped."""
    try:
        opened = packed_text.open_text(table)
    except SourceError as error:
        raise SourceError(f"patients table {error}") from error
    try:
        with opened as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            if not {"file", "patient"} <= set(header):
                raise SourceError(
                    f"patients table {table}, row 1: the columns are {some(header, 12) or 'none'}"
                    "; expected file and patient, separated by a comma; correct the header"
                )
            for row in reader:
                file, patient = (row["file"] or "").strip(), (row["patient"] or "").strip()
                if not file or not patient or None in row or len(patient) > LONGEST_NAME:
                    more = " and more cells" if None in row else ""
                    raise SourceError(
                        f"patients table {table}, row {reader.line_num}: got file "
                        f"{shown(file)!r}, patient {shown(patient)!r}{more}; expected "
                        "as many cells as columns, none empty; complete the row or remove it"
                    )
                yield reader.line_num, file.replace("\\", "/").removeprefix("./"), patient
    except packed_text.BROKEN as error:
        raise SourceError(
            f"patients table {table} cannot be read ({error}); expected a CSV in UTF-8 with the "
            "columns file,patient; save it again as such"
        ) from error
