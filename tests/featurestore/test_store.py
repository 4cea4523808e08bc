"""The store: data sets, versions, embeddings, results and the ledger, on a real Postgres."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import CheckViolation
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from featurestore import result_frames, results, versions
from featurestore.datasets import class_counts, labelled_tiles, write_dataset
from featurestore.embeddings import (
    coverage,
    embedded_tiles,
    matrix,
    n_unsound,
    write_embeddings,
)
from featurestore.errors import Reject, SourceError, StoreError
from featurestore.leakage import tiles_trained_on
from featurestore.ledger import record_rejects, rejects_frame
from featurestore.missing_tiles import iter_missing
from featurestore.model_versions import ModelVersion
from featurestore.resolution import refuse_other_resolution
from featurestore.sources.tile_folders import TileFile, TileFolder
from featurestore.study_datasets import is_as_read, point_dataset, study_dataset
from featurestore.tables import Comparison, Dataset, ModelVersionRow, Patient, Tile


def sha(text_: object) -> str:
    return hashlib.sha256(str(text_).encode()).hexdigest()


def folder(
    names: list[str], *, root: str = "/tissue/set", patient: str | None = None
) -> TileFolder:
    tiles = tuple(
        TileFile(f"{name[0]}/{name}.png", name[0], sha(name), 224, 224, patient) for name in names
    )
    return TileFolder(Path(root), tiles, (), sha(names))


def version(name: str = "net", **changes: object) -> ModelVersion:
    plain = ModelVersion(
        network=name,
        weights_sha256=sha(name),
        input_px=224,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        pooling="avg",
        precision="float32",
        dim=3,
        licence="none",
        trained_on="nothing",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_the_same_folder_twice_is_one_data_set_and_no_new_tile(session: Session) -> None:
    first = write_dataset(session, folder(["a1", "a2", "b1"]), mpp=0.5)
    again = write_dataset(session, folder(["a1", "a2", "b1"]), mpp=0.5)
    assert (first.n_new_tiles, again.n_new_tiles) == (3, 0)
    assert first.dataset_id == again.dataset_id
    assert class_counts(session, first.dataset_id) == {"a": 2, "b": 1}


def test_an_image_in_two_folders_is_one_tile(session: Session) -> None:
    one = write_dataset(session, folder(["a1", "a2"]), mpp=None)
    other = write_dataset(session, folder(["a2", "b1"], root="/tissue/other"), mpp=None)
    assert other.n_new_tiles == 1
    shared = {t.tile_id for t in labelled_tiles(session, one.dataset_id)} & {
        t.tile_id for t in labelled_tiles(session, other.dataset_id)
    }
    assert len(shared) == 1


def test_moving_a_folder_moves_where_its_tiles_are_read_from(session: Session) -> None:
    write_dataset(session, folder(["a1"]), mpp=None)
    moved = write_dataset(session, folder(["a1"], root="/elsewhere/set"), mpp=None)
    assert labelled_tiles(session, moved.dataset_id)[0].path == Path("/elsewhere/set/a/a1.png")


def test_patients_and_their_sites_are_stored_and_mpp_is_filled_in_later(session: Session) -> None:
    write_dataset(session, folder(["a1"]), mpp=None)
    write_dataset(session, folder(["a1"], patient="TCGA-05-4244"), mpp=0.5)
    tile = session.scalars(select(Tile).where(Tile.sha256 == sha("a1"))).one()
    assert (tile.patient_id, tile.mpp) == ("TCGA-05-4244", 0.5)
    assert session.get_one(Patient, "TCGA-05-4244").tissue_source_site == "05"


def test_a_tile_given_for_another_patient_is_rejected_and_the_rest_goes_on(
    session: Session,
) -> None:
    write_dataset(session, folder(["a1"], patient="P1"), mpp=None)
    written = write_dataset(session, folder(["a1", "b1"], patient="P2"), mpp=None)
    assert [reject.item for reject in written.rejects] == ["a/a1.png"]
    assert "P1" in written.rejects[0].reason
    assert "P2" in written.rejects[0].reason
    assert written.n_tiles == 1


def test_another_mpp_for_the_same_image_is_an_error_that_names_it(session: Session) -> None:
    write_dataset(session, folder(["a1"]), mpp=0.5)
    with pytest.raises(SourceError, match=r"a/a1\.png.*0\.25.*0\.5"):
        write_dataset(session, folder(["a1"]), mpp=0.25)


def test_a_version_is_told_by_its_content(session: Session) -> None:
    one = versions.register(session, version())
    assert versions.register(session, version(weights_source="elsewhere")) == one
    assert versions.register(session, version(precision="bfloat16")) != one
    assert versions.load(session, one) == replace(version(), weights_source="")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "network": st.text(min_size=1, max_size=20),
            "input_px": st.integers(1, 999),
            "mpp": st.floats(0.05, 10),
            "dim": st.integers(1, 4000),
            "training": st.dictionaries(st.text(max_size=5), st.integers()),
            "network_options": st.dictionaries(st.text(max_size=5), st.floats(0, 1)),
        },
    )
)
def test_any_difference_in_content_is_another_digest(changes: dict[str, object]) -> None:
    changed = version(**changes)
    assert (changed.sha256 == version().sha256) == (changed == version())


def test_a_version_can_not_be_changed(session: Session) -> None:
    versions.register(session, version())
    with pytest.raises(DBAPIError, match="never change"):
        session.execute(update(ModelVersionRow).values(dim=5))


def test_a_network_without_weights_is_refused(session: Session) -> None:
    with pytest.raises(DBAPIError, match="network_has_weights"):
        versions.register(session, version(weights_sha256=None))


def test_a_parent_must_be_registered_first(session: Session) -> None:
    with pytest.raises(StoreError, match="register it first"):
        versions.register(session, version("child", parent_sha256=sha("nobody")))


@pytest.fixture
def embedded(session: Session) -> tuple[int, int, np.ndarray]:
    """A data set of four tiles, a version, and vectors of the first three."""
    dataset = write_dataset(session, folder(["a1", "a2", "b1", "b2"]), mpp=0.5)
    version_id = versions.register(session, version())
    ids = np.array(sorted(t.tile_id for t in labelled_tiles(session, dataset.dataset_id)))
    vectors = np.arange(9, dtype=np.float32).reshape(3, 3) + 1
    assert write_embeddings(session, version_id, ids[:3], vectors) == 3
    return dataset.dataset_id, version_id, ids


def test_embeddings_come_back_in_the_order_asked_for(
    session: Session, embedded: tuple[int, int, np.ndarray]
) -> None:
    _, version_id, ids = embedded
    found = matrix(session, version_id, [int(ids[2]), int(ids[0])])
    np.testing.assert_array_equal(found, [[7, 8, 9], [1, 2, 3]])
    assert found.dtype == np.float32


def test_embeddings_are_written_once(
    session: Session, embedded: tuple[int, int, np.ndarray]
) -> None:
    _, version_id, ids = embedded
    other = np.full((4, 3), 9, dtype=np.float32)
    assert write_embeddings(session, version_id, ids, other) == 1
    np.testing.assert_array_equal(matrix(session, version_id, [int(ids[0])]), [[1, 2, 3]])
    assert write_embeddings(session, version_id, ids, other) == 0


def test_features_are_rounded_to_the_nearest_half(
    session: Session, embedded: tuple[int, int, np.ndarray]
) -> None:
    _, version_id, ids = embedded
    vectors = np.array([[1 / 3, -65_504, 6e-8]], dtype=np.float32)
    write_embeddings(session, version_id, ids[3:], vectors)
    np.testing.assert_array_equal(
        matrix(session, version_id, [int(ids[3])]), vectors.astype(np.float16)
    )


def test_the_database_refuses_another_dimension(
    session: Session, embedded: tuple[int, int, np.ndarray]
) -> None:
    _, version_id, ids = embedded
    with pytest.raises(CheckViolation, match=f"ck_embeddings_v{version_id}_dim"):
        write_embeddings(session, version_id, ids[3:], np.ones((1, 4), dtype=np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 70_000.0])
def test_features_that_are_not_finite_are_refused(
    session: Session, embedded: tuple[int, int, np.ndarray], bad: float
) -> None:
    _, version_id, ids = embedded
    vectors = np.array([[1, bad, 1]], dtype=np.float32)
    with pytest.raises(StoreError, match=f"first: tile {ids[3]}"):
        write_embeddings(session, version_id, ids[3:], vectors)


def test_coverage_counts_what_is_missing_and_what_is_explained(
    session: Session, embedded: tuple[int, int, np.ndarray]
) -> None:
    dataset_id, version_id, ids = embedded
    assert coverage(session, version_id, dataset_id, "s").n_missing == 1
    lost = next(t for t in labelled_tiles(session, dataset_id) if t.tile_id == ids[3])
    item = lost.path.relative_to("/tissue/set").as_posix()
    record_rejects(session, "s", [Reject(item, "embed", "gone")], run_id=None)
    found = coverage(session, version_id, dataset_id, "s")
    assert (found.n_embedded, found.n_rejected, found.n_missing) == (3, 1, 0)
    assert coverage(session, version_id, dataset_id, "another study").n_missing == 1
    assert embedded_tiles(session, version_id, dataset_id) == set(ids[:3].tolist())


def test_a_reason_from_before_the_folder_was_read_again_explains_nothing(
    session: Session, embedded: tuple[int, int, np.ndarray]
) -> None:
    dataset_id, version_id, ids = embedded
    lost = next(t for t in labelled_tiles(session, dataset_id) if t.tile_id == ids[3])
    item = lost.path.relative_to("/tissue/set").as_posix()
    record_rejects(session, "s", [Reject(item, "embed", "gone")], run_id=None)
    session.execute(update(Dataset).values(read_at=func.now() + text("interval '1 hour'")))
    assert coverage(session, version_id, dataset_id, "s").n_missing == 1


def test_a_zero_vector_is_unsound(session: Session, embedded: tuple[int, int, np.ndarray]) -> None:
    dataset_id, version_id, ids = embedded
    assert n_unsound(session, version_id, dataset_id) == 0
    write_embeddings(session, version_id, ids[3:], np.zeros((1, 3), dtype=np.float32))
    assert n_unsound(session, version_id, dataset_id) == 1


def test_asking_for_a_tile_without_embedding_names_it(
    session: Session, embedded: tuple[int, int, np.ndarray]
) -> None:
    _, version_id, ids = embedded
    with pytest.raises(StoreError, match=f"first: tile {ids[3]}"):
        matrix(session, version_id, [int(ids[3])])


def test_missing_tiles_are_paged_through_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.missing_tiles._PAGE", 2)
    with Session(engine) as session, session.begin():
        names = [f"m{number}" for number in range(5)]
        dataset_id = write_dataset(session, folder(names, root="/paged/set"), mpp=None).dataset_id
        version_id = versions.register(session, version("paged"))
    found = list(iter_missing(engine, version_id, dataset_id))
    assert sorted(tile.sha256 for tile in found) == sorted(map(sha, names))
    assert [tile.tile_id for tile in found] == sorted(tile.tile_id for tile in found)


def test_tiles_seen_in_training_are_found_through_every_ancestor_and_patient(
    session: Session,
) -> None:
    trained = write_dataset(session, folder(["a1", "a2"], root="/train/x", patient="P1"), mpp=None)
    held = folder(["a2", "b1", "c1"], root="/test/x")
    same_patient = replace(held.tiles[1], patient_id="P1")
    dataset = write_dataset(
        session, replace(held, tiles=(held.tiles[0], same_patient, held.tiles[2])), mpp=None
    )
    versions.register(session, version("base"))
    child = version(
        "child",
        parent_sha256=version("base").sha256,
        trained_on_digest=trained.digest,
        training={"seed": 1},
    )
    versions.register(session, child)
    grandchild = replace(
        child,
        network="grandchild",
        parent_sha256=child.sha256,
        trained_on_digest=write_dataset(session, folder(["z1"], root="/z"), mpp=None).digest,
    )
    version_id = versions.register(session, grandchild)
    assert tiles_trained_on(session, version_id, dataset.dataset_id) == ["a/a2.png", "b/b1.png"]
    base_id = versions.find(session, version("base").sha256)
    assert base_id is not None
    assert tiles_trained_on(session, base_id, dataset.dataset_id) == []


def test_a_training_done_before_is_found_by_what_was_asked(session: Session) -> None:
    digest = write_dataset(session, folder(["a1"]), mpp=None).digest
    versions.register(session, version("base"))
    asked = {"seed": 7, "head_learning_rate": 0.01, "epochs": [1, 3]}
    child = version(
        "child",
        parent_sha256=version("base").sha256,
        trained_on_digest=digest,
        training=asked,
    )
    version_id = versions.register(session, child)
    parent = version("base").sha256
    find = versions.find_finetuned
    same = find(session, parent_sha256=parent, trained_on_digest=digest, training=dict(asked))
    assert same == version_id
    other = find(
        session, parent_sha256=parent, trained_on_digest=digest, training=asked | {"seed": 8}
    )
    assert other is None


def test_tiles_at_another_resolution_are_refused(session: Session) -> None:
    dataset = write_dataset(session, folder(["a1"]), mpp=0.25)
    refuse_other_resolution(session, version(mpp=0.25), dataset.dataset_id)
    refuse_other_resolution(session, version(mpp=0.5, input_px=112), dataset.dataset_id)
    refuse_other_resolution(session, version(), dataset.dataset_id)
    with pytest.raises(SourceError, match=r"0\.250 µm/px.*meant for 0\.5"):
        refuse_other_resolution(session, version(mpp=0.5), dataset.dataset_id)


def test_the_ledger_holds_every_reject_once_a_run(session: Session) -> None:
    reject = Reject("a/x.png", "ingest", "is empty")
    for _ in range(2):
        record_rejects(session, "s", [reject], run_id="run-1")
    record_rejects(session, "s", [reject], run_id="run-2")
    ledger = rejects_frame(session, "s")
    assert sorted(ledger["run_id"]) == ["run-1", "run-2"]
    assert set(ledger["reason"]) == {"is empty"}


KEY = results.ExperimentKey(
    study="s",
    task="tissue",
    dataset_digest="",
    encoders={"net": "x", "other": "y"},
    settings={"seed": 7, "n_folds": 2, "n_repeats": 1, "c": 0.1},
)


def write_one_experiment(session: Session) -> tuple[results.ExperimentKey, int, dict[str, int]]:
    dataset = write_dataset(session, folder(["a1", "b1"]), mpp=None)
    ids = {name: versions.register(session, version(name)) for name in ("net", "other")}
    key = replace(KEY, dataset_digest=dataset.digest)
    experiment_id = results.write_experiment(
        session,
        key,
        version_ids=ids,
        n_not_converged={"net": 0, "other": 3},
        classes=["a", "b"],
        leakage_checked=False,
        leakage_note="no patients",
        run_id="run-1",
    )
    return key, experiment_id, ids


def comparison(**changes: object) -> pd.DataFrame:
    row = {
        "task": "tissue", "target": "all", "metric": "accuracy",
        "encoder_a": "net", "encoder_b": "other", "mean_a": 0.9, "mean_b": 0.95,
        "difference": 0.05, "ci_low": 0.01, "ci_high": 0.09, "p_naive": 1e-9,
        "p_corrected": 0.02, "test": "corrected_t", "standard_error": 0.02, "p": 0.02, "q": None,
        "p_holm": 0.04, "rope": 0.01, "p_a_better": 0.0, "p_equivalent": 0.25, "p_b_better": 0.75,
        "n_splits": 2, "n_repeats": 1, "n_folds": 2,
        "t_naive": 20.0,
        "t_corrected": 2.5, "leakage_checked": False, "leakage_note": "no patients",
    }  # fmt: skip
    return pd.DataFrame([row | changes])


def test_an_experiment_is_shown_once_it_is_made_current(session: Session) -> None:
    key, experiment_id, ids = write_one_experiment(session)
    scores = pd.DataFrame(
        {
            "encoder": ["net", "other", "other"],
            "target": "all",
            "metric": "accuracy",
            "repeat": 0,
            "fold": [0, 0, 1],
            "value": [0.5, 0.75, np.nan],
            "n_train": 8,
            "n_test": 2,
        }
    )
    assert results.write_scores(session, experiment_id, ids, scores) == 3
    pd.testing.assert_frame_equal(
        result_frames.scores_frame(session, experiment_id), scores, check_dtype=False
    )
    results.write_comparisons(session, experiment_id, comparison())
    assert result_frames.comparisons_frame(session, "s").empty
    results.make_current(session, key)
    shown = result_frames.comparisons_frame(session, "s")
    assert shown["p_corrected"].tolist() == [0.02]
    assert list(shown.columns) == results.COMPARISON_COLUMNS
    assert results.find_experiment(session, key) == experiment_id
    assert result_frames.not_converged(session, experiment_id) == {"net": 0, "other": 3}
    assert results.find_experiment(session, replace(key, settings={"seed": 8})) is None


def test_predictions_add_up_to_confusion_matrices(session: Session) -> None:
    _, experiment_id, ids = write_one_experiment(session)
    tile_ids = np.array(session.scalars(select(Tile.tile_id).order_by(Tile.tile_id)).all())[-2:]
    predictions = results.TilePredictions(
        tile_ids=tile_ids,
        observed=np.array([0, 1]),
        folds=np.array([[0, 1], [1, 0]], dtype=np.int8),
        predicted=np.array([[0, 1], [1, 1]]),
        probabilities=np.full((2, 2, 2), 0.5, dtype=np.float32),
    )
    n_rows = results.write_tile_predictions(session, experiment_id, ids["net"], predictions)
    assert n_rows == 4
    counts = result_frames.confusion_counts(session, experiment_id)
    np.testing.assert_array_equal(counts["net"], [[1, 1], [0, 2]])


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"ci_low": 0.06}, "interval_holds"),
        ({"p_corrected": 1.5}, "p_corrected_range"),
        ({"encoder_b": "net"}, "two_encoders"),
        ({"encoder_b": "nobody"}, "fk_comparisons_encoder_b"),
        ({"p_corrected": None}, "p_corrected"),
        ({"p_holm": 0.01}, "p_range"),
        ({"test": "naive"}, "test_known"),
        ({"p_b_better": 0.9}, "posterior_whole"),
        ({"rope": None}, "posterior_whole"),
    ],
)
def test_the_database_refuses_a_comparison_that_can_not_be(
    session: Session, changes: dict[str, object], constraint: str
) -> None:
    _, experiment_id, _ = write_one_experiment(session)
    with pytest.raises(DBAPIError, match=constraint):
        results.write_comparisons(session, experiment_id, comparison(**changes))


def test_writing_an_experiment_again_replaces_all_that_hangs_on_it(session: Session) -> None:
    _, experiment_id, _ = write_one_experiment(session)
    results.write_comparisons(session, experiment_id, comparison())
    _, again, _ = write_one_experiment(session)
    assert again != experiment_id
    assert session.scalar(select(func.count()).select_from(Comparison)) == 0


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    vectors=st.lists(
        st.lists(st.floats(-60_000, 60_000, width=16), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_half_precision_vectors_survive_the_store(
    session: Session, vectors: list[list[float]]
) -> None:
    with session.begin_nested() as savepoint:
        names = [f"v{number}" for number in range(len(vectors))]
        dataset = write_dataset(session, folder(names, root="/vectors"), mpp=None)
        version_id = versions.register(session, version("halves"))
        ids = [tile.tile_id for tile in labelled_tiles(session, dataset.dataset_id)]
        given_ = np.array(vectors, dtype=np.float32)
        write_embeddings(session, version_id, np.array(ids), given_)
        np.testing.assert_array_equal(matrix(session, version_id, ids), given_)
        savepoint.rollback()


def test_a_training_curve_comes_back_as_it_was(session: Session) -> None:
    version_id = versions.register(session, version())
    curve = pd.DataFrame(
        {
            "step": [1, 2],
            "epoch": [1, 1],
            "train_loss": [1.5, 0.5],
            "train_accuracy": [0.5, 0.9],
            "validation_loss": [1.4, np.nan],
            "validation_accuracy": [0.6, np.nan],
            "seconds": [2.0, 8.0],
        }
    )
    versions.record_epochs(session, version_id, curve)
    versions.record_epochs(session, version_id, curve)
    pd.testing.assert_frame_equal(versions.epochs_frame(session, version_id), curve)


def test_a_study_remembers_what_its_sources_came_to(session: Session) -> None:
    with pytest.raises(StoreError, match="s/tiles was not read yet: materialise it first"):
        study_dataset(session, "s", "tiles")
    first = write_dataset(session, folder(["a1", "b1"]), mpp=None)
    other = write_dataset(session, folder(["a1", "b1", "b2"]), mpp=None)
    for written in (first, other):
        point_dataset(session, "s", "tiles", written.dataset_id, listing_sha256=written.digest)
    assert study_dataset(session, "s", "tiles").dataset_id == other.dataset_id
    assert is_as_read(session, "s", "tiles", other.digest)
    assert not is_as_read(session, "s", "tiles", first.digest)
    assert not is_as_read(session, "another", "tiles", other.digest)
