"""What ffpe finds where the truth is known: power and false discoveries over seeds.

Each seed draws 60 patients anew; their slides, the planted genes that follow the morphology
and the null genes that follow nothing are all another draw. Every cohort is a study of its
own, run as `ffpe run` would::

    python benchmarks/truth.py --seeds 5 --home /tmp/truth

One home serves all seeds, so that the network is fine-tuned once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore.gene_results import predictability_frame
from featurestore.sources.synthetic_molecules import TRUTH_FILE
from featurestore.tables import Experiment
from orchestration.home import Home
from orchestration.luad_sources import EXPRESSION, cohort_files, luad_section
from orchestration.run import run_study
from orchestration.study import Study, read_study

STUDY = """\
name = "truth_{seed}"
seed = {seed}

[finetune]
tiles = {{ synthetic = 40, seed = 1 }}
epochs = [1, 3]
unfreeze = "block12"
seed = 7

[luad]
slides = {{ synthetic = {n_patients}, seed = {seed}, n_planted = 30, n_null = 30 }}
max_tiles_per_slide = 10
folds = 5
repeats = {n_repeats}

[[encoders]]
name = "imgnet-2048"

[[encoders]]
name = "ftx-2048"
finetuned_from = "imgnet-2048"
"""
Q = 0.05


def main() -> None:
    """Run every seed, then print what was found: a row a seed and encoder, and all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="folder for everything")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()

    arguments.home.mkdir(parents=True, exist_ok=True)
    home = Home(arguments.home.resolve())
    home.keep_caches()
    found = pd.concat(
        evaluate_seed(home, seed, arguments.patients, arguments.repeats)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    )
    home.close()
    print(found.to_string(index=False))
    print(over_seeds(found).to_string())


def evaluate_seed(home: Home, seed: int, n_patients: int, n_repeats: int) -> pd.DataFrame:
    """Run one cohort as a study and count the genes that are called predictable."""
    path = home.folder / f"truth_{seed}.toml"
    path.write_text(STUDY.format(seed=seed, n_patients=n_patients, n_repeats=n_repeats))
    study = read_study(path)
    started = time.monotonic()
    run_study(home, study, progress=_silent, on_launch=lambda launch: print(launch, flush=True))
    print(f"seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    genes = predictability(home, study)
    is_null = genes["target"].map(planted_factor(home, study)).isna()
    planted, null = genes[~is_null], genes[is_null]
    counts = {
        "planted": planted.groupby("encoder", sort=False).size(),
        "planted_found": _n_called(planted, "q"),
        "null": null.groupby("encoder", sort=False).size(),
        "null_found": _n_called(null, "q"),
        "null_uncorrected": _n_called(null, "p"),
    }
    return pd.DataFrame(counts).rename_axis("encoder").reset_index().assign(seed=seed)


def predictability(home: Home, study: Study) -> pd.DataFrame:
    """What the study shows of its expression genes: encoder, target, p and q."""
    with Session(home.engine) as session:
        experiment_id = session.execute(
            select(Experiment.experiment_id).where(
                Experiment.study == study.name,
                Experiment.task == EXPRESSION,
                Experiment.is_current,
            )
        ).scalar_one()
        return predictability_frame(session, experiment_id)


def planted_factor(home: Home, study: Study) -> pd.Series[str]:
    """The factor that drives each planted gene, by symbol; missing for a null gene."""
    genes = cohort_files(home, luad_section(study)).genes
    assert isinstance(genes, Path)
    return pd.read_csv(genes.parent / TRUTH_FILE).set_index("symbol")["factor"]


def over_seeds(found: pd.DataFrame) -> pd.DataFrame:
    """Power, share of null genes called, and share of what was called that is null."""
    total = found.drop(columns="seed").groupby("encoder", sort=False).sum()
    called = total["planted_found"] + total["null_found"]
    return pd.DataFrame(
        {
            "power": total["planted_found"] / total["planted"],
            "nulls_called": total["null_found"] / total["null"],
            "nulls_called_uncorrected": total["null_uncorrected"] / total["null"],
            "false_discoveries": total["null_found"] / called.clip(lower=1),
        }
    ).round(3)


def _n_called(genes: pd.DataFrame, column: str) -> pd.Series[int]:
    return (genes[column] < Q).groupby(genes["encoder"], sort=False).sum()


def _silent(*_arguments: object, **_options: object) -> None:
    """One line a run is enough here."""


if __name__ == "__main__":
    main()
