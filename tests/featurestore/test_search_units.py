"""Patients and slides like a given one: both judgements against brute force."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.embeddings import matrix, write_embeddings
from featurestore.model_versions import ModelVersion
from featurestore.search import similar_patients, similar_slides

DIM = 16
N_PATIENTS, N_SLIDES, N_TILES = 6, 2, 5


def sha(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


@dataclass(frozen=True)
class Cohort:
    """A row a tile: its features, slide and patient."""

    version_id: int
    vectors: np.ndarray
    slides: np.ndarray
    patients: np.ndarray

    def medians(self, units: np.ndarray, key: object) -> dict[object, float]:
        """Median of minimum distances to every unit of another patient, by brute force."""
        unit_vectors = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        mine = units == key
        others = self.patients != self.patients[mine][0]
        distances = 1 - unit_vectors[mine] @ unit_vectors.T
        return {
            other: float(np.median(distances[:, units == other].min(axis=1)))
            for other in dict.fromkeys(units[others])
        }


@pytest.fixture
def cohort(session: Session) -> Cohort:
    rng = np.random.default_rng(3)
    slides, patients, tile_ids, vectors = [], [], [], []
    for p in range(N_PATIENTS):
        patient = f"TCGA-0{p % 3 + 1}-000{p}"
        session.execute(
            text("INSERT INTO patients (patient_id, tissue_source_site) VALUES (:p, :s)"),
            {"p": patient, "s": f"0{p % 3 + 1}"},
        )
        centre = rng.normal(size=DIM)
        for s in range(N_SLIDES):
            slide_id = session.execute(
                text(
                    "INSERT INTO slides (sha256, patient_id, name, width_px, height_px, mpp,"
                    " mpp_source) VALUES (:sha, :p, :n, 900, 900, 0.5, 'slide') RETURNING slide_id"
                ),
                {"sha": sha((p, s)), "p": patient, "n": f"{patient}-DX{s + 1}.svs"},
            ).scalar_one()
            for t in range(N_TILES):
                tile_id = session.execute(
                    text(
                        "INSERT INTO tiles (sha256, width_px, height_px, mpp, patient_id,"
                        " slide_id, x_px, y_px) VALUES (:sha, 8, 8, 0.5, :p, :s, :x, 0)"
                        " RETURNING tile_id"
                    ),
                    {"sha": sha((p, s, t)), "p": patient, "s": slide_id, "x": 8 * t},
                ).scalar_one()
                tile_ids.append(tile_id)
                slides.append(slide_id)
                patients.append(patient)
                vectors.append(centre + rng.normal(size=DIM))
    version = ModelVersion(
        network="net",
        weights_sha256=sha("net"),
        input_px=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        pooling="avg",
        precision="float32",
        dim=DIM,
        licence="none",
        trained_on="nothing",
    )
    version_id = versions.register(session, version)
    write_embeddings(session, version_id, np.array(tile_ids), np.array(vectors, np.float32))
    stored = matrix(session, version_id, tile_ids)
    return Cohort(version_id, stored, np.array(slides), np.array(patients, dtype=object))


def test_patients_are_ranked_by_the_median_of_minimum_distances(
    session: Session, cohort: Cohort
) -> None:
    mine = cohort.patients[0]
    found = similar_patients(session, model_version_id=cohort.version_id, patient_id=mine, k=50)
    expected = cohort.medians(cohort.patients, mine)
    assert [hit.name for hit in found.hits] == sorted(expected, key=lambda p: expected[p])
    for hit in found.hits:
        assert hit.median_minimum == pytest.approx(expected[hit.name], abs=1e-5)
        assert (hit.n_tiles, hit.slide_id) == (N_SLIDES * N_TILES, None)
        assert hit.site == hit.name[5:7]
    assert (found.unit, found.n_query_tiles) == ("patient", N_SLIDES * N_TILES)
    # Every tile of the query has one vote.
    assert sum(hit.vote_share for hit in found.hits) == pytest.approx(1)


def test_slides_of_the_same_patient_are_never_found(session: Session, cohort: Cohort) -> None:
    mine = int(cohort.slides[0])
    found = similar_slides(session, model_version_id=cohort.version_id, slide_id=mine, k=3)
    expected = cohort.medians(cohort.slides, mine)
    assert len(expected) == (N_PATIENTS - 1) * N_SLIDES
    best = sorted(expected, key=lambda s: expected[s])[:3]
    assert [hit.slide_id for hit in found.hits] == best
    assert [hit.rank for hit in found.hits] == [1, 2, 3]
    assert cohort.patients[0] not in {hit.patient_id for hit in found.hits}
    assert all(hit.name == f"{hit.patient_id}-DX1.svs" or "-DX2" in hit.name for hit in found.hits)
    assert found.unit == "slide"
