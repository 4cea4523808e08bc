"""TCGA barcodes: what they say, and which sample stands for a patient."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.sources.barcodes import choose_samples, find, parse


@pytest.mark.parametrize(
    ("name", "patient", "sample_type", "is_tumour"),
    [
        ("TCGA-05-4244", "TCGA-05-4244", None, True),
        ("TCGA-05-4244-01", "TCGA-05-4244", 1, True),
        ("TCGA-05-4244-01A-01D-1105-08", "TCGA-05-4244", 1, True),
        ("TCGA-50-5066-02A", "TCGA-50-5066", 2, True),
        ("TCGA-05-4244-11A", "TCGA-05-4244", 11, False),
        ("TCGA-05-4244-20A", "TCGA-05-4244", 20, False),
        ("tcga.05.4244.01a.01d", "TCGA-05-4244", 1, True),
        (' "TCGA-MP-A4T7" ', "TCGA-MP-A4T7", None, True),
    ],
)
def test_a_barcode_names_patient_and_kind_of_sample(
    name: str, patient: str, sample_type: int | None, is_tumour: bool
) -> None:
    barcode = parse(name)
    assert barcode is not None
    assert (barcode.patient_id, barcode.sample_type, barcode.is_tumour) == (
        patient,
        sample_type,
        is_tumour,
    )
    assert barcode.site == patient[5:7]


@pytest.mark.parametrize("name", ["TCGA-05-42", "TCGA-05-4244-1", "TCGA-05-42444", "gene", ""])
def test_what_is_no_barcode_is_none(name: str) -> None:
    assert parse(name) is None


def test_primary_then_recurrent_never_normal() -> None:
    names = [
        "TCGA-05-0001-02A",
        "TCGA-05-0001-01B",
        "TCGA-05-0001-01A",
        "TCGA-05-0001-11A",
        "TCGA-05-0002-02A",
        "TCGA-05-0003-11A",
        "TCGA-05-00",
    ]
    chosen = choose_samples(names, where="x.tsv")
    assert chosen.positions == {"TCGA-05-0001": (2,), "TCGA-05-0002": (4,)}
    reasons = {reject.item: reject.reason for reject in chosen.rejects}
    assert set(reasons) == set(names) - {"TCGA-05-0001-01A", "TCGA-05-0002-02A"}
    assert "TCGA-05-0001-01A stands for patient TCGA-05-0001" in reasons["TCGA-05-0001-01B"]
    assert "normal tissue" in reasons["TCGA-05-0003-11A"]
    assert "no TCGA barcode" in reasons["TCGA-05-00"]


def test_a_cohort_with_its_own_names_keeps_them() -> None:
    chosen = choose_samples(["P1", "P2"], where="x.tsv")
    assert chosen.positions == {"P1": (0,), "P2": (1,)}
    # One barcode among them, and the others are malformed ones.
    mixed = choose_samples(["P1", "TCGA-05-0001"], where="x.tsv")
    assert list(mixed.positions) == ["TCGA-05-0001"]
    assert [reject.item for reject in mixed.rejects] == ["P1"]


def test_barcodes_are_found_in_any_text() -> None:
    text = "case_list_ids: TCGA-05-0001-01\tTCGA-05-0002-01A-01D\n(TCGA-05-0001-01) TCGA-05-00031"
    assert [barcode.text for barcode in find(text)] == ["TCGA-05-0001-01", "TCGA-05-0002-01A"]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([1, 2, 6, 10, 11]), st.sampled_from("ABC")),
        max_size=20,
        unique=True,
    ),
    st.randoms(),
)
def test_every_name_is_chosen_or_rejected_in_any_order(samples: list, random: object) -> None:
    names = [f"TCGA-05-000{patient}-{kind:02d}{vial}" for patient, kind, vial in samples]
    chosen = choose_samples(names, where="x")
    picked = {names[at[0]] for at in chosen.positions.values()}
    assert picked | {reject.item for reject in chosen.rejects} == set(names)
    assert len(picked) + len(chosen.rejects) == len(names)
    random.shuffle(names)  # type: ignore[attr-defined]
    again = choose_samples(names, where="x")
    assert {names[at[0]] for at in again.positions.values()} == picked
    for name in picked:
        barcode = parse(name)
        tumours = [b for n in names if (b := parse(n)) and b.patient_id == barcode.patient_id]
        assert barcode.sample_type == min(b.sample_type for b in tumours if b.is_tumour)
