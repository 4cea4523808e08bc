"""Where a study's patients come from: their slides and tables, given or drawn by ffpe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from featurestore.errors import Reject, StoreError, StudyError
from featurestore.molecular import find_source
from featurestore.sources.clinical import clinical_listing
from featurestore.sources.expression import expression_listing
from featurestore.sources.mutations import mutation_listing
from featurestore.sources.slide_files import find_slides
from featurestore.sources.tiling import SlideTiles, TilingSettings
from featurestore.tables import MolecularSource
from orchestration.home import Home
from orchestration.naming import CLINICAL_TABLE, EXPRESSION_TABLE, MUTATION_TABLE
from orchestration.study import Study
from orchestration.study_sections import Luad, SyntheticCohort

if TYPE_CHECKING:
    from orchestration.progress import OnProgress

EXPRESSION, MUTATION = "expression", "mutation"


@dataclass(frozen=True)
class CohortFiles:
    """The files of a cohort; tables that a study does not have are None."""

    slides: Path
    patients: Path | None
    expression: Path | None
    unit: str | None
    sample_sheet: Path | None
    mutations: Path | None
    sequenced: Path | None
    clinical: Path | None
    genes: Path | tuple[str, ...] | None
    mutated_genes: Path | tuple[str, ...] | None


def luad_section(study: Study) -> Luad:
    """The study's ``[luad]`` section."""
    if study.luad is None:
        raise StudyError(f"study {study.name!r} has no [luad] section")
    return study.luad


def gene_tasks(study: Study) -> list[str]:
    """The tasks that the study has tables for."""
    luad = study.luad
    if luad is None:
        return []
    drawn = not isinstance(luad.slides, str)
    given = {EXPRESSION: luad.expression is not None, MUTATION: luad.mutations is not None}
    return [task for task, is_given in given.items() if is_given or drawn]


def cohort_files(home: Home, luad: Luad) -> CohortFiles:
    """Where the cohort's files are, whether or not they were drawn yet."""
    drawn = luad.slides
    if isinstance(drawn, SyntheticCohort):
        from featurestore.sources import synthetic_molecules as molecules

        folder = _drawn_folder(home, drawn)
        return CohortFiles(
            slides=folder / "slides",
            patients=None,
            expression=folder / molecules.EXPRESSION_FILE,
            unit="log2(FPKM+1)",
            sample_sheet=None,
            mutations=folder / molecules.MUTATIONS_FILE,
            sequenced=None,
            clinical=None,
            genes=folder / molecules.GENES_FILE,
            mutated_genes=folder / molecules.MUTATED_GENES_FILE,
        )
    return CohortFiles(
        slides=Path(drawn),
        patients=luad.patients,
        expression=luad.expression,
        unit=luad.unit,
        sample_sheet=luad.sample_sheet,
        mutations=luad.mutations,
        sequenced=luad.sequenced,
        clinical=luad.clinical,
        genes=luad.genes,
        mutated_genes=None if luad.mutated_genes == "drivers" else luad.mutated_genes,
    )


def draw_cohort(home: Home, luad: Luad, on_progress: OnProgress) -> None:
    """Draw slides and tables where the cohort is synthetic; what is there is kept."""
    drawn = luad.slides
    if not isinstance(drawn, SyntheticCohort):
        return
    from featurestore.sources.synthetic_molecules import MoleculeSettings, simulate_molecules
    from featurestore.sources.synthetic_slides import draw_factors, write_cohort

    folder = _drawn_folder(home, drawn)
    factors = draw_factors(drawn.synthetic, seed=drawn.seed)
    settings = MoleculeSettings(n_planted=drawn.n_planted, n_null=drawn.n_null)
    simulate_molecules(folder, factors=factors, seed=drawn.seed, settings=settings)
    write_cohort(
        folder / "slides",
        factors=factors,
        seed=drawn.seed,
        slide_px=drawn.slide_px,
        on_progress=on_progress,
    )


def _drawn_folder(home: Home, drawn: SyntheticCohort) -> Path:
    name = f"luad-seed{drawn.seed}-{drawn.synthetic}-{drawn.slide_px}px"
    return home.synthetic / f"{name}-{drawn.n_planted}-{drawn.n_null}"


def tiling_settings(study: Study) -> TilingSettings:
    """How the study's slides are cut into tiles."""
    luad = luad_section(study)
    return TilingSettings(
        mpp=luad.mpp,
        tile_px=luad.tile_px,
        max_tiles=luad.max_tiles_per_slide,
        seed=study.seed,
        min_tissue=luad.min_tissue,
        stain=luad.stain,
    )


def slides_listing(home: Home, study: Study) -> tuple[Path, str]:
    """Root of the slides and a digest that changes when tiling them may differ.

    Raises
    ------
    SourceError
        If there is no slide.
    """
    luad = luad_section(study)
    files = find_slides(cohort_files(home, luad).slides)
    settings = [tiling_settings(study).content(), dict(luad.mpp_override)]
    return files.root, files.listing_sha256(luad.patients, settings)


def expression_source(home: Home, session: Session, study: Study) -> MolecularSource:
    """The stored expression table, as the files are now.

    Raises
    ------
    StoreError
        If the files were not read since they last changed.
    """
    files = cohort_files(home, luad_section(study))
    path = _required(files.expression, "expression")
    listing = expression_listing(path, unit=files.unit, sample_sheet=files.sample_sheet)
    found = find_source(session, path, listing, kind="expression")
    return _stored(found, path, f"{study.name}/{EXPRESSION_TABLE}")


def mutation_source(home: Home, session: Session, study: Study) -> MolecularSource:
    """The stored mutation table, as the files are now.

    Raises
    ------
    StoreError
        If the files were not read since they last changed.
    """
    files = cohort_files(home, luad_section(study))
    path = _required(files.mutations, "mutations")
    listing = mutation_listing(path, sequenced=files.sequenced)
    found = find_source(session, path, listing, kind="mutation")
    return _stored(found, path, f"{study.name}/{MUTATION_TABLE}")


def clinical_source(home: Home, session: Session, study: Study) -> MolecularSource:
    """The stored clinical table, as the file is now (see :func:`expression_source`)."""
    path = _required(cohort_files(home, luad_section(study)).clinical, "clinical")
    found = find_source(session, path, clinical_listing(path), kind="clinical")
    return _stored(found, path, f"{study.name}/{CLINICAL_TABLE}")


def _required(path: Path | None, key: str) -> Path:
    if path is None:
        raise StudyError(f"[luad] has no `{key}`")
    return path


def _stored(found: MolecularSource | None, path: Path, asset: str) -> MolecularSource:
    if found is None:
        raise StoreError(f"{path} was not read since it last changed: materialise {asset} first")
    return found


def split_outcomes(
    outcomes: Iterable[SlideTiles | Reject], rejects: list[Reject]
) -> Iterator[SlideTiles]:
    """Pass tiled slides on and put the others into ``rejects``."""
    for outcome in outcomes:
        if isinstance(outcome, Reject):
            rejects.append(outcome)
        else:
            yield outcome
