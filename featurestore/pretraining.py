"""Which encoders were pre-trained on TCGA: on TCGA patients their results are too good.

An encoder that has seen a patient's slides while it was trained, labels or not, is not tested on
that patient. What is public of each encoder's training data is listed here; of an encoder that
is not listed nothing is claimed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.model_versions import ModelVersion
from featurestore.sources import barcodes

MARK = "PRE-TRAINED ON TCGA"
"""How a result's note begins to speak of it."""


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What is published of an encoder's training data.

    Attributes
    ----------
    name : str
        As its authors call it.
    pattern : str
        Regular expression found in its hub or timm name, lower case.
    on_tcga : bool
        Whether TCGA slides are among its training data.
    data : str
        Its training data in words.
    source : str
        Where its authors say so.
    """

    name: str
    pattern: str
    on_tcga: bool
    data: str
    source: str


# The first that matches counts: a successor stands before what it is named after.
KNOWN = (
    Pretraining("Phikon-v2", r"phikon-?v2", True, "PANCAN-XL: TCGA, CPTAC, GTEx, others",
                "arXiv 2409.09173"),
    Pretraining("Phikon", r"phikon|owkin_pancancer", True, "TCGA", "medRxiv 2023.07.21.23292757"),
    Pretraining("CTransPath", r"ctranspath|transpath", True, "TCGA, PAIP",
                "doi 10.1016/j.media.2022.102559"),
    Pretraining("RetCCL", r"retccl", True, "TCGA, PAIP", "doi 10.1016/j.media.2022.102645"),
    Pretraining("REMEDIS", r"remedis", True, "TCGA", "doi 10.1038/s41551-023-01049-7"),
    Pretraining("HIPT", r"\bhipt", True, "TCGA", "arXiv 2206.02647"),
    Pretraining("Lunit", r"lunit", True, "TCGA, and slides of Lunit", "arXiv 2212.04690"),
    Pretraining("Path Foundation", r"path-foundation", True, "TCGA", "arXiv 2310.13259"),
    Pretraining("PathoDuet", r"pathoduet", True, "TCGA", "arXiv 2312.09894"),
    Pretraining("Midnight", r"midnight", True, "TCGA (12k), or with NKI-80k", "arXiv 2504.05186"),
    Pretraining("Kaiko", r"kaiko", True, "TCGA", "arXiv 2404.15217"),
    Pretraining("BEPH", r"\bbeph\b", True, "TCGA", "doi 10.1101/2024.05.16.594499"),
    Pretraining("MUSK", r"\bmusk\b", True, "TCGA, and image-text pairs",
                "doi 10.1038/s41586-024-08378-w"),
    Pretraining("UNI", r"\buni\b|\buni2", False, "Mass-100K (UNI 2: more of it), not public",
                "doi 10.1038/s41591-024-02857-3"),
    Pretraining("CONCH", r"\bconch", False, "not public, and image-text pairs",
                "doi 10.1038/s41591-024-02856-4"),
    Pretraining("Virchow", r"virchow", False, "slides of MSKCC and others, not public",
                "doi 10.1038/s41591-024-03141-0"),
    Pretraining("Prov-GigaPath", r"gigapath", False, "slides of Providence, not public",
                "doi 10.1038/s41586-024-07441-w"),
    Pretraining("SP22M, SP85M", r"sp22m|sp85m", False, "slides of Mount Sinai, not public",
                "arXiv 2310.07033"),
    Pretraining("Hibou", r"hibou", False, "not public", "arXiv 2406.05074"),
    Pretraining("H-optimus-0", r"h-optimus-0", False, "slides of 4,000 clinics, not public",
                "github.com/bioptimus/releases"),
)  # fmt: skip
"""Encoders of pathology whose training data is published."""

_NOT_PATHOLOGY = re.compile(r"imagenet|laion|lvd-?142m|jft|nothing|^in\d+k", re.IGNORECASE)


def known_pretraining(network: str) -> Pretraining | None:
    """What is known of the training data of a network of this name, or None."""
    name = network.lower()
    return next((known for known in KNOWN if re.search(known.pattern, name)), None)


def is_pretrained_on_tcga(
    versions_back: Iterable[ModelVersion], stated: bool | None = None
) -> bool | None:
    """Whether a model version, or any that it descends from, was trained on TCGA.

    Parameters
    ----------
    versions_back : iterable of ModelVersion
        The version and its ancestors.
    stated : bool, optional
        What the study says of it, which counts before everything else.

    Returns
    -------
    bool or None
        None where nothing is known.
    """
    if stated is not None:
        return stated
    answers = [_of_one(version) for version in versions_back]
    if any(answers):
        return True
    return None if None in answers else False


def _of_one(version: ModelVersion) -> bool | None:
    if re.search(r"(?<![a-z])tcga(?![a-z])", version.trained_on.lower()):
        return True
    if version.parent_sha256 is not None or version.weights_sha256 is None:
        return False  # its ancestors tell; what this store fine-tuned it on, the store checks
    known = known_pretraining(version.network)
    if known is not None:
        return known.on_tcga
    if _NOT_PATHOLOGY.search(version.trained_on):
        return False
    return None


def lineage(session: Session, model_version_id: int) -> Sequence[ModelVersion]:
    """A model version and everything it was fine-tuned from, the version itself first."""
    found = [versions.load(session, model_version_id)]
    while (parent := found[-1].parent_sha256) is not None:
        parent_id = versions.find(session, parent)
        if parent_id is None:
            break
        found.append(versions.load(session, parent_id))
    return found


def tcga_encoders(
    session: Session, version_ids: Mapping[str, int], stated: Mapping[str, bool | None]
) -> dict[str, bool | None]:
    """Whether each encoder was pre-trained on TCGA, by name; None where nothing is known."""
    return {
        encoder: is_pretrained_on_tcga(lineage(session, version_id), stated.get(encoder))
        for encoder, version_id in version_ids.items()
    }


def are_tcga(patients: Iterable[str | None]) -> bool:
    """Whether any of the patients is one of TCGA, by its barcode."""
    return any(patient and barcodes.parse(patient) for patient in patients)


def marked_note(
    note: str, answers: Mapping[str, bool | None], patients: Iterable[str | None]
) -> str:
    """A result's leakage note, with a mark where TCGA patients meet an encoder trained on TCGA.

    Parameters
    ----------
    note : str
        What is said anyway.
    answers : mapping of str to bool or None
        As :func:`tcga_encoders` gives them.
    patients : iterable of str or None
        Whom the result is about.
    """
    seen = [encoder for encoder, answer in answers.items() if answer]
    if not seen or not are_tcga(patients):
        return note
    mark = (
        f"{MARK}: {', '.join(seen)} may have seen these very patients' slides in training, so "
        "results may be too good"
    )
    return f"{note}; {mark}" if note else mark
