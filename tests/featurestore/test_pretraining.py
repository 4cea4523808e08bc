"""Encoders that were pre-trained on TCGA: who is known to be, and where the mark goes."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from featurestore import pretraining, versions
from featurestore.model_versions import ModelVersion


def version(network: str, trained_on: str = "not stated", **changes: object) -> ModelVersion:
    content: dict[str, object] = {
        "network": network,
        "weights_sha256": "a" * 64,
        "input_px": 224,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
        "pooling": "avg",
        "precision": "float32",
        "dim": 3,
        "licence": "none",
        "trained_on": trained_on,
    }
    return ModelVersion(**(content | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("hf-hub:1aurent/vit_base_patch16_224.owkin_pancancer", True),
        ("hf-hub:owkin/phikon-v2", True),
        ("hf-hub:1aurent/swin_tiny_patch4_window7_224.CTransPath", True),
        ("hf-hub:1aurent/vit_small_patch16_224.lunit_dino", True),
        ("hf-hub:1aurent/vit_base_patch16_224.kaiko_ai_towards_large_pathology_fms", True),
        ("hf-hub:kaiko-ai/midnight", True),
        ("hf-hub:MahmoodLab/UNI", False),
        ("hf-hub:MahmoodLab/UNI2-h", False),
        ("hf-hub:paige-ai/Virchow2", False),
        ("hf-hub:prov-gigapath/prov-gigapath", False),
        ("hf-hub:histai/hibou-b", False),
        ("hf-hub:bioptimus/H-optimus-0", False),
        ("hf-hub:bioptimus/H-optimus-1", None),
        ("hf-hub:somebody/unicorn", None),
        ("hf-hub:somebody/unet-of-mine", None),
    ],
)
def test_what_is_known_of_public_encoders(network: str, expected: bool | None) -> None:
    assert pretraining.is_pretrained_on_tcga([version(network)]) is expected


def test_words_of_the_training_data_count_and_the_study_counts_more() -> None:
    assert pretraining.is_pretrained_on_tcga([version("x", "TCGA-LUAD slides")]) is True
    assert pretraining.is_pretrained_on_tcga([version("x", "ImageNet-1k")]) is False
    assert pretraining.is_pretrained_on_tcga([version("x")]) is None
    assert pretraining.is_pretrained_on_tcga([version("x")], stated=True) is True
    assert pretraining.is_pretrained_on_tcga([version("owkin/phikon")], stated=False) is False


def test_a_fine_tuned_encoder_has_seen_what_its_parent_has_seen(session: Session) -> None:
    parent = version("hf-hub:owkin/phikon")
    child = version("hf-hub:owkin/phikon", "not stated, then crc5/train", weights_sha256="b" * 64)
    parent_id = versions.register(session, parent)
    line = [*pretraining.lineage(session, parent_id)]
    assert [one.sha256 for one in line] == [parent.sha256]
    unknown = version("mine", weights_sha256="c" * 64, parent_sha256=parent.sha256)
    assert pretraining.is_pretrained_on_tcga([unknown, parent]) is True
    clean = version("imgnet", "ImageNet-1k")
    child = version("imgnet", "ImageNet-1k, then crc5/train", parent_sha256=clean.sha256)
    assert pretraining.is_pretrained_on_tcga([child, clean]) is False


def test_the_mark_stands_where_tcga_patients_meet_such_an_encoder_and_nowhere_else() -> None:
    answers = {"phikon": True, "imgnet": False, "mine": None}
    note = pretraining.marked_note("folds keep patients", answers, ["TCGA-05-4244", None])
    assert note.startswith("folds keep patients; PRE-TRAINED ON TCGA: phikon may have seen")
    assert pretraining.marked_note("", answers, ["TCGA-05-4244"]).startswith(pretraining.MARK)
    assert pretraining.marked_note("said", answers, ["P1", None]) == "said"
    assert pretraining.marked_note("said", {"imgnet": False}, ["TCGA-05-4244"]) == "said"
