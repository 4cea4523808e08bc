"""Owns synthetic molecules: expression and mutations of which it is known what drives them.

A planted gene follows one of the factors that also shape the patient's slide
(:mod:`featurestore.sources.synthetic_slides`); a null gene follows nothing. The tables are
written as TCGA's are published, so that they take the same way as real ones. The other way
round, real tables can drive the factors.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from featurestore.errors import SourceError
from featurestore.sources.synthetic_slides import FACTORS, random_for

EXPRESSION_FILE = "expression.tsv.gz"
MUTATIONS_FILE = "mutations.maf.gz"
GENES_FILE = "genes.txt"
MUTATED_GENES_FILE = "mutated_genes.txt"
TRUTH_FILE = "truth.csv"

MARKERS: Mapping[str, tuple[str, ...]] = {
    "lymphocytes": ("CD2", "CD3D", "CD3E", "CD3G", "CD5", "CD6", "CD8A", "GZMK", "MS4A1", "CD79A"),
    "glands": ("NKX2-1", "NAPSA", "SFTPB", "SFTA3", "CDH1"),
    "necrosis": ("CA9", "SLC2A1", "ADM", "VEGFA", "LDHA", "NDRG1"),
    "stroma": ("COL1A1", "COL1A2", "COL3A1", "DCN", "FAP", "LUM", "THY1", "POSTN"),
}
"""Genes whose mean stands for a factor where real expression drives the morphology."""

MUTATION_EFFECTS: Mapping[str, Mapping[str, float]] = {
    "lymphocytes": {"STK11": -0.8, "KEAP1": -0.5},
    "glands": {"TP53": -0.8, "EGFR": 0.8},
    "necrosis": {"KEAP1": 0.8, "TP53": 0.4},
    "stroma": {"KRAS": -0.3},
}
"""What a mutation adds to a factor, in standard deviations of its markers' mean."""

_NON_SILENT = ("Missense_Mutation", "Nonsense_Mutation", "Frame_Shift_Del", "Splice_Site")
_NON_SILENT_SHARES = (0.7, 0.12, 0.12, 0.06)
_PASSENGER = "PASSENGER"
_SILENT_RATE = 0.04
_MAF_COLUMNS = (
    "Hugo_Symbol", "Entrez_Gene_Id", "NCBI_Build", "Chromosome", "Start_Position",
    "End_Position", "Variant_Classification", "Variant_Type", "Reference_Allele",
    "Tumor_Seq_Allele2", "Tumor_Sample_Barcode", "Matched_Norm_Sample_Barcode",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MoleculeSettings:
    """How many genes are simulated, and how strongly they follow the factors.

    Attributes
    ----------
    n_planted, n_null : int
        Expressed genes that follow a factor, and that follow nothing.
    n_planted_mutated, n_null_mutated : int
        The same of mutated genes.
    correlations : tuple of float
        Range of a planted gene's correlation with its factor.
    log_odds : float
        What a standard deviation of the factor adds to a planted mutation's log odds.
    rates : tuple of float
        Range of a gene's share of mutated patients.
    """

    n_planted: int = 40
    n_null: int = 60
    n_planted_mutated: int = 4
    n_null_mutated: int = 5
    correlations: tuple[float, float] = (0.5, 0.9)
    log_odds: float = 1.8
    rates: tuple[float, float] = (0.2, 0.5)


def simulate_molecules(
    folder: Path,
    *,
    factors: pd.DataFrame,
    seed: int,
    settings: MoleculeSettings | None = None,
) -> pd.DataFrame:
    """Write the tables of a cohort, and what is true of each gene.

    ``folder`` then holds a matrix of genes × TCGA sample barcodes of log2(FPKM + 1) as UCSC
    Xena has it, a MAF, the two lists of genes, and the truth. The same factors, seed and
    settings write the same bytes.

    Parameters
    ----------
    folder : Path
        Made if absent.
    factors : DataFrame
        As :func:`featurestore.sources.synthetic_slides.write_cohort` takes it.
    seed : int
    settings : MoleculeSettings, optional

    Returns
    -------
    DataFrame
        One row a gene: ``symbol``, ``kind`` (expression or mutation), ``factor`` (empty for a
        null gene) and ``effect`` (correlation, or log odds a standard deviation; signed).
    """
    settings = settings or MoleculeSettings()
    rng = random_for(seed, "molecules")
    z = stats.zscore(factors[list(FACTORS)].to_numpy(np.float64), axis=0)
    patients = [str(patient) for patient in factors.index]
    truth = _truth(rng, settings)
    folder.mkdir(parents=True, exist_ok=True)
    expressed = truth[truth["kind"] == "expression"]
    matrix = pd.DataFrame(
        np.stack([_expression(rng, z, gene) for gene in expressed.itertuples()]),
        index=pd.Index(expressed["symbol"], name="sample"),
        columns=[f"{patient}-01" for patient in patients],
    )
    _write(folder / EXPRESSION_FILE, matrix.to_csv(sep="\t", float_format="%.4f"))
    mutated = truth[truth["kind"] == "mutation"]
    _write(folder / MUTATIONS_FILE, _maf(rng, z, mutated, patients, settings))
    _write(folder / GENES_FILE, "\n".join(expressed["symbol"]) + "\n")
    _write(folder / MUTATED_GENES_FILE, "\n".join(mutated["symbol"]) + "\n")
    _write(folder / TRUTH_FILE, truth.to_csv(index=False))
    return truth


def factors_from_tables(expression: pd.DataFrame, mutations: pd.DataFrame) -> pd.DataFrame:
    """Factors of real patients, from their own expression and mutations.

    Each factor is the mean z-score of its :data:`MARKERS`, moved by the patient's mutations
    (:data:`MUTATION_EFFECTS`; one who was not sequenced is not moved), and then spread evenly
    from 0 to 1 by rank.

    Parameters
    ----------
    expression : DataFrame
        Patients × gene symbols, on a log scale; NaN where missing.
    mutations : DataFrame
        Patients × gene symbols: 1 mutated, 0 not, NaN not sequenced.

    Returns
    -------
    DataFrame
        Patients of ``expression``, in its order; columns
        :data:`featurestore.sources.synthetic_slides.FACTORS`.

    Raises
    ------
    SourceError
        If the expression lacks every marker of a factor, or has a patient without any.
    """
    columns = {}
    for factor in FACTORS:
        markers = [symbol for symbol in MARKERS[factor] if symbol in expression]
        if not markers:
            raise SourceError(
                f"the expression table has none of {', '.join(MARKERS[factor])}; expected at "
                f"least one, which {factor} can follow; give a table with gene symbols"
            )
        values = expression[markers]
        score = ((values - values.mean()) / values.std().replace(0, np.nan)).mean(axis=1)
        if score.isna().any():
            patient = score.index[score.isna()][0]
            raise SourceError(
                f"patient {patient} has no value of {', '.join(markers)}, which {factor} follows; "
                "leave the patient out"
            )
        score = score / score.std()
        for symbol, effect in MUTATION_EFFECTS[factor].items():
            if symbol in mutations:
                score = score + effect * mutations[symbol].reindex(score.index).fillna(0)
        columns[factor] = (score.rank(method="first") - 0.5) / len(score)
    return pd.DataFrame(columns)


def _truth(rng: Generator, settings: MoleculeSettings) -> pd.DataFrame:
    rows = []
    for i in range(settings.n_planted):
        factor = FACTORS[i % len(FACTORS)]
        effect = rng.uniform(*settings.correlations) * rng.choice([-1, 1])
        rows.append((f"PLANT{i + 1:03d}", "expression", factor, effect))
    rows += [(f"NULL{i + 1:03d}", "expression", "", 0.0) for i in range(settings.n_null)]
    for i in range(settings.n_planted_mutated):
        effect = settings.log_odds * rng.choice([-1, 1])
        rows.append((f"MUTP{i + 1:02d}", "mutation", FACTORS[i % len(FACTORS)], effect))
    rows += [(f"MUTN{i + 1:02d}", "mutation", "", 0.0) for i in range(settings.n_null_mutated)]
    return pd.DataFrame(rows, columns=["symbol", "kind", "factor", "effect"])


def _driver(z: NDArray[np.float64], factor: str) -> NDArray[np.float64]:
    return z[:, FACTORS.index(factor)] if factor else np.zeros(len(z))


def _expression(rng: Generator, z: NDArray[np.float64], gene: object) -> NDArray[np.float64]:
    """log2(FPKM + 1) of one gene in every patient."""
    factor, effect = str(gene.factor), float(gene.effect)  # type: ignore[attr-defined]
    noise = rng.standard_normal(len(z))
    followed = effect * _driver(z, factor) + np.sqrt(1 - effect**2) * noise
    level, spread = rng.uniform(3, 8), rng.uniform(0.5, 1.0)
    values: NDArray[np.float64] = np.maximum(level + spread * followed, 0)
    return values


def _maf(
    rng: Generator,
    z: NDArray[np.float64],
    genes: pd.DataFrame,
    patients: Sequence[str],
    settings: MoleculeSettings,
) -> str:
    # Every patient has a silent passenger: one without any variant would look unsequenced.
    rows = [_variant(rng, _PASSENGER, "Silent", patient) for patient in patients]
    for gene in genes.itertuples():
        rate = rng.uniform(*settings.rates)
        odds = np.log(rate / (1 - rate)) + float(gene.effect) * _driver(z, str(gene.factor))  # type: ignore[arg-type]
        is_mutated = rng.random(len(z)) < 1 / (1 + np.exp(-odds))
        is_silent = rng.random(len(z)) < _SILENT_RATE
        for patient, mutated, silent in zip(patients, is_mutated, is_silent, strict=True):
            if mutated:
                kind = str(rng.choice(_NON_SILENT, p=_NON_SILENT_SHARES))
                rows.append(_variant(rng, str(gene.symbol), kind, patient))
            if silent:
                rows.append(_variant(rng, str(gene.symbol), "Silent", patient))
    lines = ["#version gdc-1.0.0", "\t".join(_MAF_COLUMNS)]
    return "\n".join([*lines, *("\t".join(row) for row in rows)]) + "\n"


def _variant(rng: Generator, symbol: str, kind: str, patient: str) -> tuple[str, ...]:
    position = str(rng.integers(1_000_000, 100_000_000))
    is_deletion = kind == "Frame_Shift_Del"
    reference, found = ("C", "-") if is_deletion else ("C", "T")
    return (
        symbol, "0", "GRCh38", "chr1", position, position, kind, "DEL" if is_deletion else "SNP",
        reference, found, f"{patient}-01A-11D-0000-08", f"{patient}-10A-01D-0000-08",
    )  # fmt: skip


def _write(file: Path, text: str) -> None:
    """Write a file, compressed by its name; left alone where it says the same already."""
    content = text.encode()
    if file.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    if not file.exists() or file.read_bytes() != content:
        part = file.with_name(f".{file.name}.part")
        part.write_bytes(content)
        part.replace(file)
