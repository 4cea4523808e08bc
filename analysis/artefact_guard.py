"""The guard on artefacts: what of a file may tell its label, and from when on it is said so."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.artefacts import TOGETHER, ArtefactScore, artefact_scores
from featurestore.errors import CohortError
from featurestore.guards import WARNING, GuardFinding
from featurestore.sources.file_facts import FileFacts, NameFacts

ARTEFACT_GUARD = "artefact_label"

MAX_P = 0.01
MIN_GAIN = 0.1
"""An artefact is reported where p is at most ``MAX_P`` and balanced accuracy is above chance by at
least this share of the way from chance to 1."""

COLOUR = "mean colour"
NAME = "name"
LABEL_IN_NAME = "label in name"


@dataclass(frozen=True)
class ArtefactTable:
    """What is known of a data set's labelled tiles beside their tissue; all of one length.

    Attributes
    ----------
    labels : sequence of str
    patients : sequence of str or None
    files : sequence of FileFacts or None
        None where the file is gone.
    names : sequence of NameFacts
    mean_rgb : ndarray of shape (n, 3)
    """

    labels: Sequence[str]
    patients: Sequence[str | None]
    files: Sequence[FileFacts | None]
    names: Sequence[NameFacts]
    mean_rgb: NDArray[np.floating]

    def artefacts(self) -> dict[str, NDArray[np.float64]]:
        """Numbers that a model may look at, by kind of artefact.

        Modification times are not among them: folders are copied class by class, so that they
        would tell the label of any data set, and say nothing of it.
        """
        unknown = (np.nan,) * 6
        facts = np.array(
            [
                (
                    file.size_bytes,
                    file.jpeg_quality,
                    file.jpeg_table,
                    file.width_px,
                    file.height_px,
                    _code(file.format),
                )
                if file
                else unknown
                for file in self.files
            ],
            dtype=np.float64,
        )
        return {
            "file size": facts[:, [0]],
            "JPEG quality": facts[:, [1, 2, 5]],
            "image size": facts[:, [3, 4]],
            NAME: np.array(
                [(_code(name.pattern), name.length, name.number) for name in self.names]
            ),
            COLOUR: np.asarray(self.mean_rgb, dtype=np.float64),
        }


def artefact_findings(table: ArtefactTable, *, target: str, seed: int) -> list[GuardFinding]:
    """Ask of every kind of artefact, and of all together, whether it tells the label.

    Parameters
    ----------
    table : ArtefactTable
    target : str
        Name of what the tiles are.
    seed : int

    Returns
    -------
    list of GuardFinding
        Warnings only: colour is tissue too, and a file's size follows what it shows.
    """
    try:
        scores = artefact_scores(
            table.artefacts(), table.labels, patients=table.patients, seed=seed
        )
    except CohortError as error:
        return [
            GuardFinding(
                guard=ARTEFACT_GUARD,
                target=target,
                part=TOGETHER,
                passed=None,
                severity=WARNING,
                summary=f"could not be looked for: {error}",
            )
        ]
    n_gone = sum(file is None for file in table.files)
    findings = [_finding(score, target, {"n_files_gone": n_gone}) for score in scores]
    return [*findings, _label_in_name(table, target)]


def _finding(score: ArtefactScore, target: str, details: Mapping[str, int]) -> GuardFinding:
    threshold = score.chance + MIN_GAIN * (1 - score.chance)
    subject = (
        "all artefacts together tell"
        if score.artefact == TOGETHER
        else f"{score.artefact} alone tells"
    )
    tells = score.p <= MAX_P and score.balanced_accuracy >= threshold
    return GuardFinding(
        guard=ARTEFACT_GUARD,
        target=target,
        part=score.artefact,
        passed=not tells,
        severity=WARNING,
        measured=score.balanced_accuracy,
        unit="balanced accuracy",
        threshold=threshold,
        summary=f"{subject} the label with a balanced accuracy of "
        f"{100 * score.balanced_accuracy:.1f} % (chance {100 * score.chance:.1f} %, "
        f"p = {score.p:.3g})",
        details={
            "chance": score.chance,
            "p": score.p,
            "n_tiles": score.n_tiles,
            "n_classes": score.n_classes,
            "by_patient": score.by_patient,
            **details,
        },
    )


def _label_in_name(table: ArtefactTable, target: str) -> GuardFinding:
    share = float(np.mean([name.holds_label for name in table.names]))
    return GuardFinding(
        guard=ARTEFACT_GUARD,
        target=target,
        part=LABEL_IN_NAME,
        passed=share == 0,
        severity=WARNING,
        measured=share,
        unit="share of files",
        threshold=None,
        summary=f"{100 * share:.0f} % of the files have their label in their name; encoders see "
        "pixels alone, but whatever reads names would know the answer",
        details={"n_tiles": len(table.names)},
    )


def _code(text: str) -> float:
    """A number for a text: equal texts share it, and a tree can tell it from others."""
    return float(zlib.crc32(text.encode()) % 2**20)  # what a tree's float32 tells apart
