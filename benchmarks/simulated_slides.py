r"""Simulated slides of real patients: what a whole LUAD study costs, at full size.

There are 442 TCGA-LUAD patients with expression, mutations and a diagnostic slide, but the
slides are half a terabyte. This draws a small slide for each of them, whose morphology
follows the patient's real expression and mutations, and writes a study on them::

    python benchmarks/simulated_slides.py --expression FPKM.csv.gz --unit FPKM \
        --mutations GDC.maf.gz --clinical clinical.tsv --slides slides.csv \
        --genes LM22.txt --folder simulated
    ffpe run simulated/study.toml

What the features tell of the genes is then known to be there, and is no finding.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd

from featurestore.sources.expression import read_expression
from featurestore.sources.mutations import read_mutations
from featurestore.sources.synthetic_molecules import factors_from_tables
from featurestore.sources.synthetic_slides import write_cohort

STUDY = """\
# Real expression, mutations and clinical data of {n_patients} patients; simulated slides.
name = "simulated"
seed = 7

[finetune]
tiles = {{ synthetic = 40, seed = 1 }}
epochs = [1, 3]
unfreeze = "block12"

[luad]
slides = "slides"
max_tiles_per_slide = 6
expression = "{expression}"
unit = "{unit}"
mutations = "{mutations}"
clinical = "{clinical}"
genes = "{genes}"
folds = 5
repeats = 50

[[encoders]]
name = "imgnet-2048"

[[encoders]]
name = "ftx-2048"
finetuned_from = "imgnet-2048"
"""


def main() -> None:
    """Draw the slides and write the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("expression", "mutations", "clinical", "slides", "genes", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--unit", required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--slide-px", type=int, default=768)
    arguments = parser.parse_args()

    read = read_expression(arguments.expression, unit=arguments.unit)
    expression = pd.DataFrame(read.values.T, index=read.patients, columns=read.symbols)
    mutations = mutation_matrix(arguments.mutations)
    named = pd.read_csv(arguments.slides, encoding="utf-8-sig")["PATIENT"]
    patients = sorted(set(expression.index) & set(mutations.index) & set(named))
    factors = factors_from_tables(expression.loc[patients], mutations.loc[patients])
    started = time.monotonic()
    write_cohort(
        arguments.folder / "slides",
        factors=factors,
        seed=arguments.seed,
        slide_px=arguments.slide_px,
    )
    print(f"{len(patients)} slides in {time.monotonic() - started:.0f} s")
    paths = ("expression", "mutations", "clinical", "genes")
    (arguments.folder / "study.toml").write_text(
        STUDY.format(
            n_patients=len(patients),
            unit=arguments.unit,
            **{name: getattr(arguments, name).resolve() for name in paths},
        )
    )


def mutation_matrix(path: Path) -> pd.DataFrame:
    """Patients × genes: 1 mutated, 0 not; only sequenced patients."""
    read = read_mutations(path)
    mutated = read.counts[read.counts["n_non_silent"] > 0]
    table = pd.crosstab(mutated["patient"], mutated["symbol"]).clip(upper=1)
    return table.reindex(list(read.patients), fill_value=0).astype(float)


if __name__ == "__main__":
    main()
