"""What the paper published: numbers of other data, to stand beside ours and never among them.

Li et al., Journal of Pathology Informatics 2022, 13:100115.
"""

from __future__ import annotations

from orchestration.report.sections import Row

REFERENCE = "Li et al., J Pathol Inform 2022, 13:100115"
HEADING = "published, on other data"

PAIR = ("imgnet-2048", "ftx-2048")
"""The encoders that the paper compares; its numbers stand in rows of no other pair."""

_STROMA = {"str", "stroma"}
_BETTER_MUTATIONS = {"STK11", "TP53", "LRP1B", "NF1", "FAT1"}

SENTENCES = {
    "tissue": (
        "accuracy 96.4 % with IMGNET-2048 and 98.4 % with FTX-2048 (P = 2.2 × 10⁻⁶, a naive "
        "p-value); recall of stroma 87 % and 94 %",
    ),
    "expression": (
        "of 171 genes significantly related to the features (P < 0.05), 139 were predicted better "
        "with FTX-2048 than with IMGNET-2048",
    ),
    "mutation": (
        "of the 9 most frequently mutated genes, 5 were predicted better with FTX-2048 than with "
        "IMGNET-2048: STK11, TP53, LRP1B, NF1 and FAT1",
    ),
}
"""By task; every one of them is shown under the heading :data:`HEADING`."""


def is_published_pair(row: Row) -> bool:
    """Whether a row compares the two encoders of the paper, in its order."""
    return (row["encoder_a"].lower(), row["encoder_b"].lower()) == PAIR


def published_value(row: Row) -> str:
    """What the paper says to a row of comparisons; a dash where it says nothing."""
    known = ""
    if is_published_pair(row):
        if row["task"] == "tissue" and row["metric"] == "accuracy" and row["target"] == "all":
            known = "96.4 → 98.4 %, P = 2.2 × 10⁻⁶"
        elif row["task"] == "tissue" and row["target"].lower() in _STROMA:
            known = "87 → 94 %" if row["metric"] == "recall" else ""
        elif row["task"] == "mutation" and row["target"] in _BETTER_MUTATIONS:
            known = "better with FTX-2048"
    return known or "–"


def published_count(row: Row) -> str:
    """What the paper says to a row of counts of better genes."""
    if not is_published_pair(row):
        return "–"
    if row["task"] == "expression":
        return "139 of 171 (P < 0.05)" if row["genes"] == "predictable" else "–"
    return "5 of 9 (most often mutated)" if row["genes"] == "all" else "–"
