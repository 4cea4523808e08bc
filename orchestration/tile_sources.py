"""Sources of labelled tiles as a study names them: a folder, or tissue that ffpe draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from featurestore.datasets import WrittenDataset, write_dataset
from featurestore.ledger import record_rejects
from featurestore.model_versions import content_sha256
from featurestore.sources.synthetic import PATIENTS_FILE, write_tissue
from featurestore.sources.tile_folders import TileFolder, listing_sha256, read_tile_folder
from featurestore.study_datasets import point_dataset
from orchestration.home import Home
from orchestration.outages import outlasting
from orchestration.progress import OnProgress
from orchestration.resources import transaction
from orchestration.study import Study
from orchestration.study_sections import Synthetic, TileSource


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What taking a source in came to: where it was read, and the data set it became."""

    root: Path
    written: WrittenDataset


@outlasting
def take_in(
    home: Home,
    study: Study,
    name: str,
    source: TileSource,
    *,
    run_id: str | None,
    on_progress: OnProgress,
) -> TakenIn:
    """Read a source and make it the data set that asset ``name`` of the study stands for.

    One transaction: the tiles, the pointer to them and the rejects are there together, or
    none of them is.

    Raises
    ------
    SourceError
        If the source as a whole cannot be used.
    """
    folder = read_source(home, source, on_progress)
    with transaction(home) as session:
        written = write_dataset(session, folder, mpp=source.mpp)
        point_dataset(
            session, study.name, name, written.dataset_id, listing_sha256=folder.listing_sha256
        )
        record_rejects(session, study.name, written.rejects, run_id=run_id)
    return TakenIn(folder.root, written)


def folder_of(home: Home, source: TileSource) -> Path:
    """The folder that holds the source's tiles, whether or not it exists yet."""
    if isinstance(source.tiles, Synthetic):
        drawn = source.tiles
        name = f"tissue-{drawn.tile_px}px-seed{drawn.seed}-{drawn.synthetic}"
        return home.synthetic / name
    return source.tiles


def _patients(home: Home, source: TileSource) -> Path | None:
    if isinstance(source.tiles, Synthetic):
        return folder_of(home, source) / PATIENTS_FILE
    return source.patients


def fingerprint(home: Home, source: TileSource) -> str:
    """Digest that changes whenever reading the source again could tell something new.

    It looks at names, sizes and times of the files, not into them.

    Raises
    ------
    SourceError
        If the folder cannot be listed.
    """
    return _with_mpp(listing_sha256(folder_of(home, source), _patients(home, source)), source)


def _with_mpp(listing: str, source: TileSource) -> str:
    return content_sha256([listing, source.mpp])


def read_source(home: Home, source: TileSource, on_progress: OnProgress) -> TileFolder:
    """Read every tile of the source, drawing it first where it is synthetic.

    Raises
    ------
    SourceError
        If the source as a whole cannot be used.
    """
    root = folder_of(home, source)
    if isinstance(source.tiles, Synthetic):
        drawn = source.tiles
        write_tissue(root, n_per_class=drawn.synthetic, seed=drawn.seed, tile_px=drawn.tile_px)
    folder = read_tile_folder(root, patients=_patients(home, source), on_progress=on_progress)
    # The listing that it was read from: what changed meanwhile will be seen next time.
    return replace(folder, listing_sha256=_with_mpp(folder.listing_sha256, source))
