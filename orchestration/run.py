"""Running a study: what is stale is materialised through Dagster, in order, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from featurestore.engine import names_lost_connection
from featurestore.errors import FfpeError, OutageError
from orchestration import currency, feature_currency
from orchestration.cluster import splits_on_cluster
from orchestration.definitions import build_definitions
from orchestration.home import Home
from orchestration.instance import open_instance
from orchestration.left_over_runs import cancel_own, close_left_over, process_tag, report_stopped
from orchestration.naming import ANALYSIS, FEATURES, GROUPS, MODELS, SOURCES, asset_key
from orchestration.outages import outlast
from orchestration.progress import ProgressReporter
from orchestration.stopping import last_words
from orchestration.study import Study


class RunFailedError(FfpeError):
    """A run ended without materialising what it was for; the message is the cause."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One Dagster run: the assets it is for, and the encoder if they are partitioned."""

    assets: tuple[str, ...]
    encoder: str | None

    def __str__(self) -> str:
        """As a person would say it."""
        names = " and ".join(self.assets)
        return names if self.encoder is None else f"{names} of {self.encoder}"


def stale_launches(home: Home, study: Study, groups: Collection[str]) -> Iterator[Launch]:
    """What has to run, in order; each is looked up only when those before it have run.

    Parameters
    ----------
    home : Home
    study : Study
    groups : collection of str
        Which of :data:`orchestration.naming.GROUPS` to look at.
    """
    if SOURCES in groups and (names := currency.stale_sources(home, study)):
        yield Launch(tuple(names), None)
    # A parent before the encoders that are fine-tuned from it.
    for entry in sorted(study.encoders, key=lambda entry: entry.finetuned_from is not None):
        names = currency.stale_models(home, study, entry) if MODELS in groups else []
        if FEATURES in groups:
            # A new version has no embeddings yet, so all of it belongs to one run.
            names += (
                feature_currency.feature_names(study)
                if names
                else feature_currency.stale_features(home, study, entry)
            )
        if names:
            yield Launch(tuple(names), entry.name)
    if FEATURES in groups:
        if names := feature_currency.stale_classes(home, study):
            yield Launch(tuple(names), None)
        for entry in study.encoders:
            if names := feature_currency.stale_pooling(home, study, entry):
                yield Launch(tuple(names), entry.name)
    if ANALYSIS in groups and (names := currency.stale_analysis(home, study)):
        yield Launch(tuple(names), None)


def run_study(
    home: Home,
    study: Study,
    *,
    groups: Collection[str] = GROUPS,
    launches: Sequence[Launch] | None = None,
    progress: ProgressReporter,
    on_launch: Callable[[Launch], None],
    log_level: str = "CRITICAL",
) -> int:
    """Materialise everything of the study that is stale.

    Where the database goes away meanwhile and comes back, what is stale then is materialised.

    Parameters
    ----------
    home : Home
    study : Study
    groups : collection of str
        Groups to materialise; all of them by default.
    launches : sequence of Launch, optional
        Materialise just these, stale or not.
    progress : ProgressReporter
    on_launch : callable
        Told of every run before it starts.
    log_level : str
        From which level Dagster's own log goes to standard error.

    Returns
    -------
    int
        Number of runs: 0 if everything was current.

    Raises
    ------
    RunFailedError
        If a run fails; what had been materialised before it stays.
    """
    definitions = build_definitions(
        [study],
        {
            "home": dg.ResourceDefinition.hardcoded_resource(home),
            "progress": dg.ResourceDefinition.hardcoded_resource(progress),
        },
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    n_runs = 0

    def materialise() -> None:
        nonlocal n_runs
        with open_instance(home) as instance, last_words(lambda: cancel_own(instance)):
            close_left_over(instance)
            for launch in stale_launches(home, study, groups) if launches is None else launches:
                on_launch(launch)
                with splits_on_cluster():
                    result = job.execute_in_process(
                        instance=instance,
                        asset_selection=[asset_key(study, name) for name in launch.assets],
                        partition_key=launch.encoder,
                        tags={"ffpe/study": study.name, **process_tag()},
                        run_config={"loggers": {"console": {"config": {"log_level": log_level}}}},
                        raise_on_error=False,
                    )
                n_runs += 1
                if not result.success:
                    report_stopped(instance, result)
                    raise _failure(launch, result)

    outlast(home, materialise)
    return n_runs


def _failure(launch: Launch, result: dg.ExecuteInProcessResult) -> FfpeError:
    for event in result.all_events:
        if event.is_step_failure and _lost_connection(event.step_failure_data.error):
            return OutageError(_innermost(event.step_failure_data.error))
    return RunFailedError(f"{launch} failed: {_cause(result)}")


def _lost_connection(error: Any) -> bool:
    while error is not None and error.cause is not None:
        error = error.cause
    return error is not None and names_lost_connection(error.cls_name or "")


def _cause(result: dg.ExecuteInProcessResult) -> str:
    """The one line that says why a run failed: the error itself or the checks that blocked."""
    blocking = [
        f"check {evaluation.check_name} blocks what follows: {evaluation.description}"
        for evaluation in result.get_asset_check_evaluations()
        # A warning is no cause: the run goes on past it.
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
    ]
    if blocking:
        return "; ".join(blocking)
    for event in result.all_events:
        if event.is_step_failure:
            return _innermost(event.step_failure_data.error)
    return f"see run {result.run_id}"


def _innermost(error: Any) -> str:
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "no reason was recorded"
    # Our own errors say everything in their message; the class of another one helps.
    message: str = error.message.removeprefix(f"{FfpeError.__module__}.{error.cls_name}: ")
    return " ".join(message.split())
