"""Assets of group sources: slides become tiles, molecular tables become rows."""

from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from featurestore.ledger import record_rejects
from featurestore.molecular import (
    WrittenSource,
    write_clinical,
    write_expression,
    write_gene_sets,
    write_mutations,
)
from featurestore.slides import write_slides
from featurestore.sources.clinical import read_clinical
from featurestore.sources.expression import read_expression
from featurestore.sources.gene_sets import read_genes
from featurestore.sources.mutations import read_mutations
from featurestore.sources.slide_files import find_slides
from featurestore.sources.slides import inspect_slides
from featurestore.sources.tiling import SlideTiles, tile_slides
from featurestore.study_datasets import point_dataset
from orchestration.clinical_baseline import register_clinical
from orchestration.home import Home
from orchestration.luad_sources import (
    cohort_files,
    draw_cohort,
    slides_listing,
    split_outcomes,
    tiling_settings,
)
from orchestration.metadata import picture_file, stored, table
from orchestration.naming import (
    CLINICAL_TABLE,
    EXPRESSION_TABLE,
    MUTATION_TABLE,
    SLIDE_TILES,
    SOURCES,
    asset_key,
    code_version,
)
from orchestration.resources import transaction
from orchestration.study import Study
from orchestration.study_sections import Luad

_N_SHOWN = 8


def luad_source_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The tiles and tables of a study's patients."""
    luad = study.luad
    if luad is None:
        return []
    assets = [_slide_tiles(study, luad)]
    drawn = not isinstance(luad.slides, str)
    if drawn or luad.expression is not None:
        assets.append(_expression_table(study, luad))
    if drawn or luad.mutations is not None:
        assets.append(_mutation_table(study, luad))
    if luad.clinical is not None:
        assets.append(_clinical_table(study, luad.clinical))
    return assets


def _slide_tiles(study: Study, luad: Luad) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, SLIDE_TILES),
        group_name=SOURCES,
        code_version=code_version(luad, study.seed),
        description="Tissue of every slide, cut into tiles: coordinates and checksums, no pixels",
        kinds={"postgres"},
        required_resource_keys={"home", "progress"},
    )
    def slide_tiles(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        progress = context.resources.progress
        draw_cohort(home, luad, partial(progress, "draw slides", unit="slides"))
        root, listing = slides_listing(home, study)
        files = find_slides(cohort_files(home, luad).slides)
        slides = inspect_slides(
            files,
            patients=luad.patients,
            mpp_override=luad.mpp_override,
            on_progress=partial(progress, "open slides", unit="slides"),
        )
        rejects = list(slides.rejects)
        folder = home.figures(study.name) / "slides"
        folder.mkdir(exist_ok=True)
        tiled = []
        outcomes = tile_slides(slides.slides, tiling_settings(study))
        for n_done, slide in enumerate(split_outcomes(outcomes, rejects), 1):
            _save_overlay(slide, folder)
            tiled.append(slide)
            progress("tile slides", n_done, len(slides.slides), unit="slides")
        with transaction(home) as session:
            written = write_slides(session, root, tiled, listing_sha256=listing)
            point_dataset(
                session, study.name, SLIDE_TILES, written.dataset_id, listing_sha256=listing
            )
            rejects += written.rejects
            record_rejects(session, study.name, rejects, run_id=context.run.run_id)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(written.digest),
            metadata={
                **stored("public.tiles", written.n_tiles),
                "n_slides": len([slide for slide in tiled if slide.tiles]),
                "n_new_tiles": written.n_new_tiles,
                "n_rejects": len(rejects),
                **_throughput(tiled),
                "slides": table(_slide_table(tiled)),
                "rejects": table(
                    pd.DataFrame(
                        [(reject.item, reject.reason) for reject in rejects[:50]],
                        columns=["item", "reason"],
                    )
                ),
                "overlays": dg.MetadataValue.path(folder),
                **_overlays(tiled, folder),
            },
        )

    return slide_tiles


def _overlay_path(slide: SlideTiles, folder: Path) -> Path:
    return folder / f"{slide.slide.path.replace('/', '__')}.png"


def _save_overlay(slide: SlideTiles, folder: Path) -> None:
    Image.fromarray(slide.thumbnail).save(_overlay_path(slide, folder))


def _overlays(tiled: list[SlideTiles], folder: Path) -> dict[str, Any]:
    return {
        f"overlay_{number}": picture_file(_overlay_path(slide, folder), slide.slide.path)
        for number, slide in enumerate(tiled[:_N_SHOWN], 1)
    }


def _throughput(tiled: list[SlideTiles]) -> dict[str, float]:
    seconds = sum(slide.seconds for slide in tiled) or 1e-9
    n_tiles = sum(len(slide.tiles) for slide in tiled)
    return {
        "tiles_per_second": round(n_tiles / seconds, 1),
        "slides_per_hour": round(3600 * len(tiled) / seconds, 1),
    }


def _slide_table(tiled: list[SlideTiles]) -> pd.DataFrame:
    rows = [
        {
            "slide": slide.slide.path,
            "patient": slide.slide.patient_id,
            "mpp": slide.slide.mpp,
            "n_tiles": len(slide.tiles),
            "n_grid": slide.n_grid,
            **{f"n_{reason}": n for reason, n in slide.n_rejected.items()},
            "seconds": slide.seconds,
        }
        for slide in tiled[:500]
    ]
    return pd.DataFrame(rows)


def _expression_table(study: Study, luad: Luad) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, EXPRESSION_TABLE),
        deps=_drawn_with(study, luad),
        group_name=SOURCES,
        code_version=code_version(luad),
        description="Gene expression by patient, log2(x + 1), and the sets of its genes",
        kinds={"postgres"},
        required_resource_keys={"home"},
    )
    def expression_table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        files = cohort_files(home, luad)
        if files.expression is None:
            raise dg.Failure("[luad] has no `expression`")
        read = read_expression(files.expression, unit=files.unit, sample_sheet=files.sample_sheet)
        with transaction(home) as session:
            written = write_expression(session, read)
            if isinstance(files.genes, Path):
                write_gene_sets(session, read_genes(files.genes, luad.gene_sets))
            record_rejects(session, study.name, read.rejects, run_id=context.run.run_id)
        return _source_result(
            written,
            "public.expression",
            unit=read.unit,
            layout=read.layout,
            n_genes=len(read.symbols),
            n_rejects=len(read.rejects),
        )

    return expression_table


def _mutation_table(study: Study, luad: Luad) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, MUTATION_TABLE),
        deps=_drawn_with(study, luad),
        group_name=SOURCES,
        code_version=code_version(luad),
        description="Somatic variants by gene and patient, and who was sequenced",
        kinds={"postgres"},
        required_resource_keys={"home"},
    )
    def mutation_table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        files = cohort_files(home, luad)
        if files.mutations is None:
            raise dg.Failure("[luad] has no `mutations`")
        read = read_mutations(files.mutations, sequenced=files.sequenced)
        with transaction(home) as session:
            written = write_mutations(session, read)
            record_rejects(session, study.name, read.rejects, run_id=context.run.run_id)
        return _source_result(
            written,
            "public.mutations",
            layout=read.layout,
            n_sequenced=len(read.patients),
            n_rejects=len(read.rejects),
        )

    return mutation_table


def _clinical_table(study: Study, path: Path) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, CLINICAL_TABLE),
        group_name=SOURCES,
        code_version=code_version(study.luad),
        description="Clinical variables by patient: the baseline that tissue has to beat",
        kinds={"postgres"},
        required_resource_keys={"home"},
    )
    def clinical_table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        read = read_clinical(path)
        with transaction(home) as session:
            written = write_clinical(session, read)
            register_clinical(session, study.name, written.source_id)
            record_rejects(session, study.name, read.rejects, run_id=context.run.run_id)
        return _source_result(
            written, "public.clinical", layout=read.layout, n_rejects=len(read.rejects)
        )

    return clinical_table


def _drawn_with(study: Study, luad: Luad) -> list[dg.AssetKey]:
    # A synthetic cohort's tables are drawn along with its slides.
    return [] if isinstance(luad.slides, str) else [asset_key(study, SLIDE_TILES)]


def _source_result(
    written: WrittenSource, table_name: str, **metadata: Any
) -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(written.digest),
        metadata={
            **stored(table_name, written.n_rows),
            "n_patients": written.n_patients,
            "source_id": written.source_id,
            **metadata,
        },
    )
