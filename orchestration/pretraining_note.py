"""The mark on results of TCGA patients with encoders that were pre-trained on TCGA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from featurestore import pretraining
from orchestration.study import Study


def stated_pretraining(study: Study) -> dict[str, bool | None]:
    """What a study itself says of its encoders: whether they were trained on TCGA."""
    said = {entry.name: entry.trained_on_tcga for entry in study.encoders}
    # A fine-tuned encoder has seen what its parent has seen.
    return {
        entry.name: said[entry.name]
        if said[entry.name] is not None or entry.finetuned_from is None
        else said[entry.finetuned_from]
        for entry in study.encoders
    }


def note_with_pretraining(
    session: Session,
    study: Study,
    note: str,
    version_ids: Mapping[str, int],
    patients: Sequence[str | None],
) -> str:
    """A result's leakage note, marked where TCGA patients meet an encoder trained on TCGA."""
    answers = pretraining.tcga_encoders(session, version_ids, stated_pretraining(study))
    return pretraining.marked_note(note, answers, patients)
