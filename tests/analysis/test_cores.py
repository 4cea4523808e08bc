"""Splits spread over cores and backends: the numbers are the same to the last bit."""

from __future__ import annotations

import threading
import warnings
from contextlib import nullcontext

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from analysis.cores import on_every_core
from analysis.crossval import cross_validate
from analysis.encoder_swap import count_better
from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.mutation import MutationSettings, evaluate_mutation
from analysis.patients import PatientCohort, PatientResult

N = 60
# More than a megabyte, from where processes are handed features as a file in memory.
N_FEATURES = 6_000
EXPRESSION = ExpressionSettings(n_folds=3, n_repeats=4, seed=5)
MUTATION = MutationSettings(n_folds=3, n_repeats=2, seed=5)
CONFIGURED = {
    "sequential": {"backend": "sequential"},
    "threads": {"backend": "threading", "n_jobs": 3},
    "processes": {"backend": "loky", "n_jobs": 2},
}


@pytest.fixture(scope="module")
def cohort() -> PatientCohort:
    rng = np.random.default_rng(0)
    factors, mix = rng.normal(size=(N, 3)), rng.normal(size=(3, N_FEATURES))
    features = {
        name: (factors @ mix + noise * rng.normal(size=(N, N_FEATURES))).astype(np.float32)
        for name, noise in (("poorer", 6.0), ("better", 2.0))
    }
    values = 5 + factors @ rng.normal(size=(3, 4)) + 0.5 * rng.normal(size=(N, 4))
    targets = pd.DataFrame(values, columns=[f"G{i}" for i in range(4)])
    targets.loc[[2, 11, 30], "G2"] = np.nan
    return PatientCohort(tuple(f"P{i:02d}" for i in range(N)), features, targets, None)


def mutated(cohort: PatientCohort) -> PatientCohort:
    status = (cohort.targets > cohort.targets.median()).astype(float)
    return PatientCohort(cohort.patient_ids, cohort.features, status, None)


def assert_same_bits(found: PatientResult, expected: PatientResult) -> None:
    pd.testing.assert_frame_equal(found.scores, expected.scores, check_exact=True)
    for encoder, predictions in expected.predictions.items():
        assert predictions.tobytes() == found.predictions[encoder].tobytes()


@pytest.fixture(scope="module")
def expected(cohort: PatientCohort) -> tuple[PatientResult, PatientResult]:
    return evaluate_expression(cohort, EXPRESSION), evaluate_mutation(mutated(cohort), MUTATION)


@pytest.mark.parametrize("name", CONFIGURED)
def test_repeated_cv_gives_the_same_bits_on_any_backend(
    name: str, cohort: PatientCohort, expected: tuple[PatientResult, PatientResult]
) -> None:
    with joblib.parallel_config(**CONFIGURED[name]):
        expression = evaluate_expression(cohort, EXPRESSION)
        mutation = evaluate_mutation(mutated(cohort), MUTATION)
        counted = count_better(cohort, expression, "poorer", "better", n_swaps=200)
    assert_same_bits(expression, expected[0])
    assert_same_bits(mutation, expected[1])
    here = count_better(cohort, expected[0], "poorer", "better", n_swaps=200)
    assert counted.null_counts.tobytes() == here.null_counts.tobytes()
    assert counted.p_swap == here.p_swap


def square_and_thread(number: int) -> tuple[int, int]:
    return number**2, threading.get_ident()


@pytest.mark.parametrize("n_items", [0, 1, 2, 31])
@pytest.mark.parametrize("name", [None, *CONFIGURED])
def test_results_come_in_order_with_progress(name: str | None, n_items: int) -> None:
    seen: list[tuple[int, int]] = []
    with nullcontext() if name is None else joblib.parallel_config(**CONFIGURED[name]):
        found = on_every_core(
            square_and_thread, range(n_items), on_progress=lambda *both: seen.append(both)
        )
        assert [square for square, _ in found] == [n**2 for n in range(n_items)]
    assert seen == [(n, n_items) for n in range(1, n_items + 1)]


def grumble(number: int) -> int:
    warnings.warn(f"item {number}", ConvergenceWarning, stacklevel=1)
    return number


@pytest.mark.parametrize("name", [None, *CONFIGURED])
def test_warnings_are_heard_from_anywhere(name: str | None) -> None:
    configured = nullcontext() if name is None else joblib.parallel_config(**CONFIGURED[name])
    with configured, pytest.warns(ConvergenceWarning) as heard:
        assert list(on_every_core(grumble, range(5))) == [0, 1, 2, 3, 4]
    assert {str(each.message) for each in heard} == {f"item {n}" for n in range(5)}


@pytest.mark.parametrize("name", CONFIGURED)
def test_tissue_classes_are_predicted_alike_on_any_backend(name: str) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(90) % 3
    features = {"a": (rng.normal(size=(90, 20)) + labels[:, None]).astype(np.float32)}
    folds = np.stack([rng.permutation(np.arange(90) % 3) for _ in range(2)])
    expected = cross_validate(features, labels, folds, n_classes=3, c=1.0)["a"]
    with joblib.parallel_config(**CONFIGURED[name]):
        found = cross_validate(features, labels, folds, n_classes=3, c=1.0)["a"]
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()
    assert found.n_not_converged == expected.n_not_converged


def fail(number: int) -> int:
    raise ValueError(f"item {number}")


@pytest.mark.parametrize("name", [None, *CONFIGURED])
def test_an_error_comes_through_as_it_is(name: str | None) -> None:
    configured = nullcontext() if name is None else joblib.parallel_config(**CONFIGURED[name])
    with configured, pytest.raises(ValueError, match="item 0"):
        list(on_every_core(fail, [0]))


def n_blas_threads(_: int) -> set[int]:
    from threadpoolctl import threadpool_info

    return {each["num_threads"] for each in threadpool_info()}


@pytest.mark.parametrize("name", [None, *CONFIGURED])
def test_every_item_has_one_blas_thread(name: str | None) -> None:
    with nullcontext() if name is None else joblib.parallel_config(**CONFIGURED[name]):
        assert list(on_every_core(n_blas_threads, range(4))) == [{1}] * 4
