"""Reads fuzzed inputs in a process of its own, so that a crash or a hang is only this one's.

Run as a program: a line of JSON in (what to damage and how, what to read and by which reader), a
line of JSON out (what came of it). A reader here calls the product as the product's own callers
do, and counts what went in, what was accepted and what was rejected by name.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mutations import damaged

# No process may ask for more than this at once: where memory is promised freely, a reader that
# wants terabytes would else be served until the machine is out of it.
ADDRESS_BYTES = 8 << 30
NOBODY = 65534


def outcome(n_in: int, accepted: Iterable[Any], rejects: Iterable[Any], texts: Iterable[Any] = ()):
    """What a reader made of its items: how many went in and where each of them is now."""
    accepted = list(accepted)
    return {
        "n_in": n_in,
        "n_accepted": len(accepted),
        "rejects": [[reject.item, reject.stage, reject.reason] for reject in rejects],
        "texts": [str(text) for text in (*accepted, *texts)],
    }


def image(path: Path):
    from featurestore.sources.images import pixel_sha256, read_rgb

    return outcome(1, [pixel_sha256(read_rgb(path))], [])


def facts(path: Path):
    from featurestore.sources.file_facts import read_file_facts

    return outcome(1, [read_file_facts(path)], [])


def tiles(path: Path):
    from featurestore.sources.listings import list_folder
    from featurestore.sources.tile_folders import read_tile_folder

    patients = path / "patients.csv"
    images = set(list_folder(path).images)
    folder = read_tile_folder(path, patients=patients if os.path.lexists(patients) else None)
    named = {reject.item for reject in folder.rejects}
    lost = images - {tile.path for tile in folder.tiles} - named
    assert not lost, f"lost without a word: {lost}"
    rejects = [reject for reject in folder.rejects if reject.item in images]
    texts = [tile.patient_id for tile in folder.tiles]
    return outcome(len(images), [tile.path for tile in folder.tiles], rejects, texts)


def slide(path: Path):
    from featurestore.sources.slide_files import find_slides
    from featurestore.sources.slides import inspect_slides
    from featurestore.sources.tiling import SlideTiles, TilingSettings, tile_slides

    files = find_slides(path)
    found = inspect_slides(files, mpp_override={"TCGA*": 0.5}, n_threads=1)
    settings = TilingSettings(tile_px=64, mpp=1.0)
    tiled = list(tile_slides(found.slides, settings, n_threads=1))
    for one in tiled:
        if isinstance(one, SlideTiles):
            assert one.n_grid == len(one.tiles) + sum(one.n_rejected.values()), one
    good = [one.slide.path for one in tiled if isinstance(one, SlideTiles) and one.tiles]
    bad = [one for one in tiled if not isinstance(one, SlideTiles)]
    empty = [one.reject for one in tiled if isinstance(one, SlideTiles) and not one.tiles]
    return outcome(len(files.paths), good, [*found.rejects, *bad, *empty])


def expression(path: Path):
    from featurestore.sources import gene_names
    from featurestore.sources.delimited import read_head
    from featurestore.sources.expression import read_expression

    table = read_expression(path, unit="FPKM")
    about_genes = {"", *gene_names.SYMBOL_COLUMNS, *gene_names.OTHER_COLUMNS}
    samples = [name for name in read_head(path).header[1:] if name.lower() not in about_genes]
    gone = [reject for reject in table.rejects if reject.item != path.name]
    assert table.values.shape == (len(table.symbols), len(table.patients))
    assert table.values.size
    assert not (table.values < 0).any()
    return outcome(len(set(samples)), table.patients, gone, table.symbols)


def gdc(path: Path):
    from featurestore.sources.expression import read_expression

    table = read_expression(path, unit="FPKM")
    files = [file for file in path.iterdir() if file.name != "sheet.tsv"]
    return outcome(len(files), table.patients, table.rejects, table.symbols)


def unknown(path: Path, key_columns: tuple[str, ...], patients: Iterable[str], rejects) -> set[str]:
    """Names of samples or patients in a table that are neither accepted nor rejected."""
    from featurestore.sources import delimited
    from featurestore.sources.barcodes import parse

    head = delimited.read_head(path)
    column = delimited.column_named(head, key_columns)
    if column is None:
        return set()
    names = set(delimited.read_text_columns(head, [column])[column]) - {"", head.header[column]}
    known = {*patients, *(reject.item for reject in rejects)}
    patient_of = {name: (barcode.patient_id if (barcode := parse(name)) else name.strip('"'))
                  for name in names}  # fmt: skip
    return {name for name in names if not known & {name, patient_of[name]} and len(name) < 200}


def maf(path: Path):
    from featurestore.sources.mutations import read_mutations

    table = read_mutations(path)
    if path.is_file():
        samples = ("Tumor_Sample_Barcode", "Sample ID", "SAMPLE_ID")
        lost = unknown(path, samples, table.patients, table.rejects)
        assert not lost, f"lost without a word: {lost}"
    return outcome(0, [], table.rejects, [*table.patients, *table.counts["symbol"]])


def clinical(path: Path):
    from featurestore.sources.clinical import read_clinical

    table = read_clinical(path)
    keys = ("Sample ID", "SAMPLE_ID")
    if unknown(path, keys, (), ()) == set():
        keys = ("Patient ID", "PATIENT_ID", "bcr_patient_barcode")
    lost = unknown(path, keys, table.patients, table.rejects)
    assert not lost, f"lost without a word: {lost}"
    texts = [text for row in table.rows for text in row]
    return outcome(0, [], table.rejects, [*table.patients, *texts])


def genes(path: Path):
    from featurestore.sources.gene_sets import read_genes

    found = read_genes(path)
    assert set(found.symbols) == {gene for genes in found.sets.values() for gene in genes}
    return outcome(0, [], [], [*found.symbols, *found.sets])


def features(path: Path):
    import numpy as np

    from featurestore.sources.feature_files import read_feature_file
    from featurestore.sources.file_kinds import is_folder
    from models.feature_tensors import read_tensor

    patches = path.parent / "patches"
    found = read_feature_file(
        path, read_tensor=read_tensor, patches=patches if is_folder(patches) else None
    )
    assert found.features.dtype == np.float32
    assert len(found.features) == len(found.coords) > 0
    return outcome(1, [found.layout], [])


def study(path: Path):
    from orchestration.study import read_study

    return outcome(1, [read_study(path).name], [])


READERS = {
    reader.__name__: reader
    for reader in (
        image, facts, tiles, slide, expression, gdc, maf, clinical, genes, features, study,
    )
}  # fmt: skip


@contextmanager
def without_rights(wanted: bool) -> Iterator[None]:
    """As a user who owns nothing: root may read whatever it likes."""
    if wanted:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if wanted:
            os.seteuid(0)


def answer(reader: str, path: Path, as_nobody: bool) -> dict[str, Any]:
    from featurestore.errors import FfpeError

    started = time.process_time()
    before = peak_bytes(anew=True)
    try:
        with without_rights(as_nobody):
            found = READERS[reader](path)
    except FfpeError as error:
        found = {"refused": type(error).__name__, "message": str(error)}
    except BaseException as error:
        import traceback

        where = "".join(traceback.format_exception(error)[-3:])
        found = {"escaped": type(error).__name__, "message": f"{error}\n{where}"}
    used = peak_bytes() - before
    return found | {"seconds": time.process_time() - started, "bytes": used}


def peak_bytes(*, anew: bool = False) -> int:
    """Most memory that this process had resident, since it was last asked anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    # As the test suite has it: what a library only warns of today must not pass unseen.
    warnings.simplefilter("error")
    for module in sys.argv[1:]:
        __import__(module)
    bound_memory()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["damages"] is not None:
            base, other = (Path(asked[key]).read_bytes() for key in ("base", "other"))
            Path(asked["write"]).write_bytes(damaged(base, other, asked["damages"]))
        found = answer(asked["reader"], Path(asked["read"]), asked["as_nobody"])
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
