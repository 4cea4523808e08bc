"""Which genes a study asks about: its list, gene sets or drivers, held against the table."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from featurestore.errors import Reject
from featurestore.molecular_frames import mutation_counts, source_genes
from featurestore.sources.gene_sets import LUNG_DRIVERS, known_genes, read_genes
from orchestration.home import Home
from orchestration.luad_sources import EXPRESSION, MUTATION, cohort_files, luad_section
from orchestration.study import Study


def chosen_genes(
    home: Home, session: Session, study: Study, task: str, source_id: int
) -> tuple[tuple[str, ...], tuple[Reject, ...]]:
    """Genes of a task that its table knows, in the study's order, and those that it does not.

    Of mutated genes the most frequent are taken, as many as the study asks for.
    """
    luad = luad_section(study)
    files = cohort_files(home, luad)
    wanted = files.genes if task == EXPRESSION else files.mutated_genes
    known = source_genes(session, source_id)
    if wanted is None:
        names = known if task == EXPRESSION else LUNG_DRIVERS
    elif isinstance(wanted, Path):
        names = read_genes(wanted, luad.gene_sets if task == EXPRESSION else None).symbols
    else:
        names = wanted
    genes, rejects = known_genes(names, known, f"the {task} table")
    if task == MUTATION and genes:
        most = mutation_counts(session, source_id, genes)["symbol"].head(luad.top_mutated)
        genes = tuple(most)
    return genes, rejects
