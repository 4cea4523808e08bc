"""Guards on the store: every leak is planted and found, and clean data passes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from featurestore import leakage, near_duplicates, results, versions
from featurestore.datasets import write_dataset
from featurestore.embeddings import ensure_partition, write_embeddings
from featurestore.errors import InputError
from featurestore.fingerprints import Hashes, hashes_of, n_unhashed, write_fingerprints
from featurestore.gene_results import GenePredictions, write_gene_predictions
from featurestore.guards import (
    BLOCKING,
    WARNING,
    GuardFinding,
    blocking_leaks,
    guards_frame,
    known_findings,
    write_findings,
)
from featurestore.model_versions import ModelVersion
from featurestore.perceptual_hash import N_BITS, turns
from featurestore.results import ExperimentKey, TilePredictions
from featurestore.sources.tile_folders import TileFile, TileFolder
from featurestore.tables import (
    CvGenePrediction,
    CvPrediction,
    Dataset,
    DatasetTile,
    GuardResult,
    Patient,
    Slide,
    Tile,
    TileFingerprint,
)


def sha(text_: object) -> str:
    return hashlib.sha256(str(text_).encode()).hexdigest()


def write_tiles(session: Session, name: str, patients: Mapping[str, str | None]) -> int:
    tiles = tuple(
        TileFile(f"a/{tile}.png", "a", sha(tile), 64, 64, patient)
        for tile, patient in patients.items()
    )
    folder = TileFolder(Path("/tissue") / name, tiles, (), sha(name))
    return write_dataset(session, folder, mpp=None).dataset_id


def tile_ids(session: Session, dataset_id: int) -> dict[str, int]:
    rows = session.execute(
        select(DatasetTile.path, DatasetTile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
        .order_by(DatasetTile.path)
    )
    return {Path(path).stem: tile_id for path, tile_id in rows}


def random_bits(n: int, seed: int) -> np.ndarray:
    bits = np.random.default_rng(seed).random((n, N_BITS)) > 0.5
    bits[:, 0] = False
    return bits


def flipped_bits(bits: np.ndarray, n: int) -> np.ndarray:
    changed = bits.copy()
    changed[1 : n + 1] ^= True
    return changed


def fingerprint(session: Session, ids: list[int], bits: np.ndarray, *plain: int) -> None:
    is_plain = np.isin(np.arange(len(ids)), plain)
    write_fingerprints(session, ids, bits, is_plain, np.full((len(ids), 3), 200.0, np.float32))


# What is written


def finding(**changes: object) -> GuardFinding:
    content: dict[str, object] = {
        "guard": "g", "target": "t", "passed": True, "severity": BLOCKING, "summary": "clean",
    }  # fmt: skip
    return GuardFinding(**(content | changes))  # type: ignore[arg-type]


def write(session: Session, *findings: GuardFinding, inputs: str = "one") -> None:
    write_findings(
        session, "s", findings, dataset_digest=sha("d"), inputs_sha256=sha(inputs), run_id=None
    )


def test_looking_again_replaces_what_was_found(session: Session) -> None:
    write(session, finding(part="x", passed=False, summary="leak"), finding(part="y"))
    write(session, finding(target="other", passed=False, severity=WARNING, summary="hint"))
    assert blocking_leaks(session, "s", sha("d")) == ["leak"]
    assert blocking_leaks(session, "s", sha("another")) == []
    assert blocking_leaks(session, "another", sha("d")) == []
    frame = guards_frame(session, "s")
    assert frame["summary"].tolist() == ["leak", "hint", "clean"]
    write(session, finding(part="x"), inputs="two")
    assert blocking_leaks(session, "s", sha("d")) == []
    assert sorted(guards_frame(session, "s")["target"]) == ["other", "t"]
    assert known_findings(session, "s", "g", "t", sha("one")) == []
    assert known_findings(session, "s", "g", "t", sha("two")) == [finding(part="x")]


def test_findings_of_two_guards_at_once_are_refused(session: Session) -> None:
    with pytest.raises(InputError, match="one guard and target"):
        write(session, finding(), finding(guard="h"))


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"severity": "loud"}, "severity_known"),
        ({"measured": 1.0}, "unit_told"),
        ({"passed": None, "summary": ""}, "unchecked_explained"),
    ],
)
def test_the_database_refuses(session: Session, changes: dict, constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        write(session, finding(**changes))


# Fingerprints


def test_fingerprints_are_written_once_and_read_as_they_were(session: Session) -> None:
    dataset_id = write_tiles(session, "set", {"t1": "P1", "t2": None, "t3": None})
    ids = tile_ids(session, dataset_id)
    assert n_unhashed(session, dataset_id) == 3
    bits = random_bits(2, 1)
    fingerprint(session, [ids["t1"], ids["t2"]], bits, 1)
    found = hashes_of(session, dataset_id)
    assert (found.n_plain, found.n_missing) == (1, 1)
    assert found.paths == ["a/t1.png"]
    assert found.patients == ["P1"]
    assert (found.bits == bits[:1]).all()
    fingerprint(session, [ids["t1"], ids["t3"]], random_bits(2, 2))
    again = hashes_of(session, dataset_id)
    assert (again.bits[0] == bits[0]).all()
    assert n_unhashed(session, dataset_id) == 0


def test_sql_users_can_compare_hashes(session: Session) -> None:
    dataset_id = write_tiles(session, "set", {"t1": None, "t2": None})
    ids = tile_ids(session, dataset_id)
    bits = random_bits(1, 1)
    fingerprint(session, list(ids.values()), np.stack([bits[0], flipped_bits(bits[0], 9)]))
    distance = session.scalar(
        text(
            "SELECT a.hash <~> b.hash FROM tile_fingerprints a, tile_fingerprints b"
            " WHERE a.tile_id < b.tile_id"
        )
    )
    assert distance == 9
    assert session.scalar(select(func.count()).select_from(TileFingerprint)) == 2


# Copies by hash


def two_sets(session: Session) -> tuple[int, int, dict[str, int], dict[str, int]]:
    training = write_tiles(session, "train", {f"r{i}": None for i in range(6)})
    tested = write_tiles(session, "test", {f"e{i}": None for i in range(5)})
    return training, tested, tile_ids(session, training), tile_ids(session, tested)


def by_hash(session: Session, tested: int, training: int) -> dict[str, GuardFinding]:
    findings = near_duplicates.copies_by_hash(
        hashes_of(session, tested), hashes_of(session, training), target="tissue_tiles"
    )
    return {finding.part: finding for finding in findings}


def test_clean_sets_pass_and_a_turned_copy_blocks_and_a_likeness_warns(session: Session) -> None:
    training, tested, train, test = two_sets(session)
    known, bits = random_bits(6, 1), random_bits(5, 2)
    fingerprint(session, list(train.values()), known, 5)
    turned = turns(known[[2]])[6][0]
    copy = flipped_bits(turned, near_duplicates.MAX_BITS_COPY)
    alike = flipped_bits(known[3], near_duplicates.MAX_BITS_SIMILAR)
    fingerprint(session, [test["e0"], test["e1"], test["e2"]], bits[:3])
    clean = by_hash(session, tested, training)
    assert [finding.passed for finding in clean.values()] == [True, True]
    assert clean["copies"].details["n_not_hashed"] == 2
    assert clean["copies"].details["n_too_plain"] == 1
    fingerprint(session, [test["e3"], test["e4"]], np.stack([copy, alike]))
    found = by_hash(session, tested, training)
    assert (found["copies"].passed, found["copies"].severity) == (False, BLOCKING)
    assert found["copies"].measured == 1
    assert found["copies"].details["pairs"] == [
        {"tile": "a/e3.png", "training_tile": "a/r2.png", "bits": near_duplicates.MAX_BITS_COPY}
    ]
    assert "a/e3.png and a/r2.png" in found["copies"].summary
    assert (found["similar"].passed, found["similar"].severity) == (False, WARNING)
    assert found["similar"].details["pairs"][0]["tile"] == "a/e4.png"


def test_without_a_hash_it_is_not_claimed_that_there_is_no_copy(session: Session) -> None:
    training, tested, train, _ = two_sets(session)
    fingerprint(session, list(train.values()), random_bits(6, 1))
    found = by_hash(session, tested, training)
    assert found["copies"].passed is None
    assert "could not" in found["copies"].summary


def test_copies_under_two_patients_block_and_of_one_patient_do_not(session: Session) -> None:
    dataset_id = write_tiles(
        session, "set", {"t1": "P1", "t2": "P1", "t3": "P2", "t4": None, "t5": "P3"}
    )
    ids = tile_ids(session, dataset_id)
    bits = random_bits(5, 1)
    bits[1] = turns(bits[[0]])[3][0]
    fingerprint(session, [ids[f"t{i}"] for i in range(1, 6)], bits)

    def look() -> list[GuardFinding]:
        return near_duplicates.copies_within(hashes_of(session, dataset_id), target="t")

    assert [finding.passed for finding in look()] == [True, True]
    session.execute(update(Tile).where(Tile.tile_id == ids["t2"]).values(patient_id="P3"))
    two, _ = look()
    assert (two.passed, two.severity, two.measured) == (False, BLOCKING, 1)
    session.execute(update(Tile).where(Tile.tile_id == ids["t2"]).values(patient_id=None))
    two, unknown = look()
    assert two.passed
    assert (unknown.passed, unknown.severity) == (False, WARNING)


# Copies by features


def encoder(name: str = "net") -> ModelVersion:
    return ModelVersion(
        network=name, weights_sha256=sha(name), input_px=64, mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5), interpolation="bicubic", pooling="avg", precision="float32", dim=16,
        licence="none", trained_on="nothing",
    )  # fmt: skip


def test_a_copy_by_features_blocks_unless_the_hash_speaks_against_it(session: Session) -> None:
    training, tested, train, test = two_sets(session)
    version_id = versions.register(session, encoder())
    ensure_partition(session, version_id, 16)
    rng = np.random.default_rng(3)
    # As pooled features are: all of them point nearly the same way.
    known, features = 5 + rng.normal(size=(6, 16)), 5 + rng.normal(size=(5, 16))
    features[1] = known[4] + 0.01
    features[2] = known[0] - 0.01
    for ids, vectors in ((train, known), (test, features)):
        write_embeddings(
            session, version_id, np.array(list(ids.values())), vectors.astype(np.float32)
        )
    hashes, bits = random_bits(6, 4), random_bits(5, 5)
    bits[1] = flipped_bits(hashes[4], near_duplicates.MAX_BITS_WITH_FEATURES)
    fingerprint(session, list(train.values()), hashes)
    fingerprint(session, list(test.values()), bits)

    def look(tiles: Hashes) -> dict[str, GuardFinding]:
        findings = near_duplicates.copies_by_features(
            session, version_id, tiles, tested, hashes_of(session, training), training, target="t"
        )
        return {finding.part: finding for finding in findings}

    found = look(hashes_of(session, tested))
    assert found["copies"].severity == BLOCKING
    assert [pair["tile"] for pair in found["copies"].details["pairs"]] == ["a/e1.png"]
    assert found["copies"].details["pairs"][0]["training_tile"] == "a/r4.png"
    assert found["similar"].severity == WARNING
    assert [pair["tile"] for pair in found["similar"].details["pairs"]] == ["a/e2.png"]


def test_nearest_by_features_is_the_same_in_every_block(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, train, test = two_sets(session)
    version_id = versions.register(session, encoder())
    ensure_partition(session, version_id, 16)
    rng = np.random.default_rng(3)
    ids, others = np.array(list(test.values())), np.array(list(train.values()))
    for which in (ids, others):
        write_embeddings(
            session, version_id, which, rng.normal(size=(len(which), 16)).astype(np.float32)
        )
    whole = near_duplicates.nearest_by_features(session, version_id, ids, others)
    monkeypatch.setattr(near_duplicates, "_BLOCK", 2)
    blocks = near_duplicates.nearest_by_features(session, version_id, ids, others)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-5)
    assert (blocks[1] == whole[1]).all()


# Slides


def slide_set(session: Session, name: str, slides: Mapping[str, str]) -> int:
    """A data set of one tile a slide: file name to patient."""
    for patient in set(slides.values()):
        if session.get(Patient, patient) is None:
            session.add(Patient(patient_id=patient))
    session.flush()
    dataset = Dataset(
        digest=sha(name), name=name, root="/slides", listing_sha256=sha(name), n_tiles=len(slides)
    )
    session.add(dataset)
    session.flush()
    for number, (file, patient) in enumerate(slides.items()):
        slide = Slide(
            sha256=sha([name, number]), patient_id=patient, name=file.split("/")[-1],
            width_px=100, height_px=100, mpp=0.5, mpp_source="slide",
        )  # fmt: skip
        session.add(slide)
        session.flush()
        tile = Tile(
            sha256=sha([name, number, "tile"]), width_px=50, height_px=50, mpp=0.5,
            patient_id=patient, slide_id=slide.slide_id, x_px=0, y_px=0,
        )  # fmt: skip
        session.add(tile)
        session.flush()
        session.add(DatasetTile(dataset_id=dataset.dataset_id, tile_id=tile.tile_id, path=file))
    session.flush()
    return dataset.dataset_id


def test_clean_slides_pass(session: Session) -> None:
    dataset_id = slide_set(
        session,
        "clean",
        {"TCGA-05-4244-01Z-00-DX1.svs": "TCGA-05-4244", "b/one.svs": "P1", "b/two.svs": "P1"},
    )
    assert leakage.slides_of_two_patients(session, dataset_id) == []


def test_a_slide_of_two_patients_is_found_each_way(session: Session) -> None:
    dataset_id = slide_set(
        session,
        "leaking",
        {
            "TCGA-05-4244-01Z-00-DX1.svs": "TCGA-05-4245",
            "a/same.svs": "P1",
            "b/same.svs": "P2",
            "c.svs": "P3",
        },
    )
    of_c = session.scalars(
        select(Tile).join(Slide, Slide.slide_id == Tile.slide_id).where(Slide.name == "c.svs")
    ).one()
    of_c.patient_id = "P1"
    session.flush()
    found = leakage.slides_of_two_patients(session, dataset_id)
    assert found == [
        "TCGA-05-4244-01Z-00-DX1.svs: its barcode names TCGA-05-4244, it was given for "
        "TCGA-05-4245",
        "c.svs: given for P3, but tiles of it for P1",
        "same.svs: files of this name are given for P1 and P2",
    ]


# Folds


def experiment(session: Session, task: str, dataset_id: int, **settings: object) -> tuple[int, int]:
    version_id = versions.register(session, encoder(task))
    key = ExperimentKey(
        study="s",
        task=task,
        dataset_digest=session.get_one(Dataset, dataset_id).digest,
        encoders={"net": sha(task)},
        settings={"seed": 1, "n_folds": 2, "n_repeats": 2} | settings,
    )
    experiment_id = results.write_experiment(
        session, key, version_ids={"net": version_id}, n_not_converged={"net": 0}, classes=["a"],
        leakage_checked=True, leakage_note="", run_id=None,
    )  # fmt: skip
    return experiment_id, version_id


def test_a_patient_in_two_folds_of_tiles_is_found(session: Session) -> None:
    dataset_id = write_tiles(session, "set", {"t1": "P1", "t2": "P1", "t3": "P2", "t4": None})
    experiment_id, version_id = experiment(session, "tissue", dataset_id)
    ids = tile_ids(session, dataset_id)
    predictions = TilePredictions(
        tile_ids=np.array([ids[f"t{i}"] for i in range(1, 5)]),
        observed=np.zeros(4, int),
        folds=np.array([[0, 0, 1, 1], [1, 1, 0, 0]]),
        predicted=np.zeros((2, 4), int),
        probabilities=np.ones((2, 4, 1), np.float32),
    )
    results.write_tile_predictions(session, experiment_id, version_id, predictions)
    assert leakage.units_on_two_sides(session, experiment_id) == []
    session.execute(
        update(CvPrediction)
        .where(CvPrediction.tile_id == ids["t2"], CvPrediction.repeat == 1)
        .values(fold=0)
    )
    assert leakage.units_on_two_sides(session, experiment_id) == [
        "patient P1 is in two folds of 1 repeat(s)"
    ]


def test_a_site_in_two_folds_is_found_where_folds_keep_sites_whole(session: Session) -> None:
    slides = {f"{i}.svs": f"TCGA-0{i % 2}-000{i}" for i in range(4)}
    dataset_id = slide_set(session, "sites", slides)
    for patient in slides.values():
        session.get_one(Patient, patient).tissue_source_site = patient[5:7]
    session.flush()
    by_site, version_id = experiment(session, "expression", dataset_id, group="site")
    by_patient, other_id = experiment(session, "mutation", dataset_id, group="patient")
    patients = sorted(slides.values())
    predictions = GenePredictions(
        patient_ids=patients,
        targets=["G"],
        observed=np.zeros((4, 1)),
        folds={"G": np.array([[0, 0, 1, 1], [1, 1, 0, 0]])},
        predicted=np.zeros((2, 4, 1)),
    )
    write_gene_predictions(session, by_site, version_id, predictions)
    write_gene_predictions(session, by_patient, other_id, predictions)
    assert leakage.units_on_two_sides(session, by_site) == []
    session.execute(
        update(CvGenePrediction)
        .where(CvGenePrediction.patient_id == patients[0])
        .values(folds=[1, 1])
    )
    assert leakage.units_on_two_sides(session, by_site) == [
        "site 00 is in two folds of 1 repeat(s)"
    ]
    assert leakage.units_on_two_sides(session, by_patient) == []


def test_every_finding_can_be_read_with_sql_alone(session: Session) -> None:
    write(session, finding(passed=False, measured=2.0, unit="tiles", threshold=1.0, summary="two"))
    row = session.execute(
        select(GuardResult.guard, GuardResult.measured, GuardResult.unit, GuardResult.created_at)
    ).one()
    assert row[:3] == ("g", 2.0, "tiles")
    assert row.created_at is not None
