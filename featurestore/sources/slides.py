"""Owns what slides there are: which files, of which patient, at which resolution.

A slide is one file that OpenSlide reads, or a plain image of a region of a slide (then the
folder it lies in may name its patient). Its resolution comes from the file or from the study,
never from a guess; its patient from a table, or from a TCGA barcode in its name.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from featurestore.errors import Reject, SourceError, UnreadableImageError
from featurestore.sources.barcodes import find, parse
from featurestore.sources.patients import read_patients
from featurestore.sources.slide_files import SlideFiles
from featurestore.sources.slide_pixels import open_pixels, pixels_of, read_area, slide_sha256

MIN_MPP, MAX_MPP = 0.05, 10.0
"""Bounds of a believable resolution in µm per pixel."""

MAX_SIDE_MM, MAX_AREA_MM2 = 200.0, 6000.0
"""Bounds of a believable slide: the largest glass that scanners take is 76 × 52 mm. A damaged
header may say anything, and the overview of a slide is as large as the slide is said to be."""

_STAGE = "ingest"


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """One slide that can be tiled.

    Attributes
    ----------
    root : Path
        The folder that ``path`` is relative to.
    path : str
    sha256 : str
        Digest of the file's bytes.
    patient_id : str
    width_px, height_px : int
        Size of level 0.
    mpp : float
        Resolution of level 0 in µm per pixel.
    mpp_source : str
        ``"slide"`` where the file tells it, ``"study"`` where the study overrides it.
    downsamples : tuple of float
        Of each level.
    """

    root: Path
    path: str
    sha256: str
    patient_id: str
    width_px: int
    height_px: int
    mpp: float
    mpp_source: str
    downsamples: tuple[float, ...]

    @property
    def file(self) -> Path:
        """Where it lies."""
        return self.root / self.path


@dataclass(frozen=True)
class Slides:
    """Slides that were inspected, sorted by path, and files that cannot be tiled."""

    root: Path
    slides: tuple[SlideInfo, ...]
    rejects: tuple[Reject, ...]


def inspect_slides(
    files: SlideFiles,
    *,
    patients: Path | None = None,
    mpp_override: Mapping[str, float] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    n_threads: int = 2,
) -> Slides:
    """Open every slide, hash it, and find its resolution and its patient.

    Parameters
    ----------
    files : SlideFiles
    patients : Path, optional
        CSV with the columns ``file`` and ``patient``. Without a row there, a TCGA barcode in
        the file's name tells the patient, or the folder of a region image.
    mpp_override : mapping of str to float, optional
        Resolution of level 0 by path, file name or pattern (``"*.png"``); the most exact one
        counts, and it goes before what the file says.
    on_progress : callable, optional
        Called in the calling thread as ``on_progress(n_done, n_total)`` after each slide.
    n_threads : int
        Slides opened at the same time.

    Raises
    ------
    SourceError
        If the patients table or an override cannot be used, or not one slide is left.
    """
    overrides = dict(mpp_override or {})
    rejects = [*files.rejects, *_check_overrides(overrides, files.paths)]
    table: dict[str, str] = {}
    if patients is not None:
        table, unmatched = read_patients(patients, files.root, files.paths)
        rejects += unmatched
    inspect = partial(_inspect_or_reject, files.root, table, overrides)
    slides: list[SlideInfo] = []
    with ThreadPoolExecutor(max(1, n_threads), thread_name_prefix="slides") as pool:
        for n_done, outcome in enumerate(pool.map(inspect, files.paths), 1):
            if isinstance(outcome, Reject):
                rejects.append(outcome)
            else:
                slides.append(outcome)
            if on_progress:
                on_progress(n_done, len(files.paths))
    slides, duplicates = _without_duplicates(slides)
    rejects += duplicates
    if not slides:
        raise SourceError(
            f"{files.root}: none of {len(files.paths)} slides can be used; first reason: "
            f"{rejects[0].item}: {rejects[0].reason}"
        )
    ordered = sorted(rejects, key=lambda reject: (reject.item, reject.reason))
    return Slides(files.root, tuple(slides), tuple(ordered))


def inspect_slide(
    root: Path, path: str, *, patient_id: str, mpp_override: float | None = None
) -> SlideInfo:
    """Open one slide, hash it, decode a piece of it and find its resolution.

    Raises
    ------
    UnreadableImageError
        If it cannot be opened or decoded, or its resolution is unknown or absurd.
    """
    file = root / path
    slide = open_pixels(file)
    mpp, source = _resolution(path, slide.mpp_xy, mpp_override)
    width_px, height_px = slide.width_px, slide.height_px
    _require_size(width_px * mpp / 1000, height_px * mpp / 1000)
    # A header may be whole where the pixels are not.
    probe = min(width_px, height_px, 64)
    read_area(
        file,
        x_px=(width_px - probe) // 2,
        y_px=(height_px - probe) // 2,
        width_px=probe,
        height_px=probe,
        to_px=(probe, probe),
    )
    return SlideInfo(
        root, path, slide_sha256(file), patient_id, width_px, height_px, mpp, source,
        slide.downsamples,
    )  # fmt: skip


def patient_of(path: str, *, is_image: bool) -> str:
    """Patient that a path names: a TCGA barcode in the file's name, or a region's folder.

    Raises
    ------
    UnreadableImageError
        If it names none, or two, or says that the tissue is no tumour.
    """
    folder, _, name = path.rpartition("/")
    found = find(name.upper())
    normal = next((barcode for barcode in found if not barcode.is_tumour), None)
    if normal is not None:
        raise UnreadableImageError(
            f"{normal.text} is no tumour (sample type {normal.sample_type:02d}); expected 01 to "
            "09; leave the slide out"
        )
    patients = {barcode.patient_id for barcode in found}
    if is_image and folder:
        own = folder.partition("/")[0]
        barcode = parse(own)
        if barcode is not None:
            patients.add(barcode.patient_id)
        elif not patients:
            return own
    if len(patients) == 1:
        return patients.pop()
    named = " and ".join(sorted(patients)) or "no TCGA barcode"
    raise UnreadableImageError(
        f"its patient is unknown: {named} in {path!r}; expected one; name its patient in a CSV "
        "with the columns file,patient and give it as `patients`"
    )


def _inspect_or_reject(
    root: Path, table: Mapping[str, str], overrides: Mapping[str, float], path: str
) -> SlideInfo | Reject:
    try:
        is_image = "/" in path and len(pixels_of(root / path).downsamples) == 1
        patient = table.get(path) or patient_of(path, is_image=is_image)
        return inspect_slide(
            root, path, patient_id=patient, mpp_override=_override(overrides, path)
        )
    except UnreadableImageError as error:
        return _reject(path, str(error))


def _resolution(
    path: str, declared: tuple[float, float] | None, override: float | None
) -> tuple[float, str]:
    name = path.rpartition("/")[2]
    remedy = f"if you know it, say so in the study: `mpp_override = {{ {name!r} = 0.25 }}`".replace(
        "'", '"'
    )
    if override is not None:
        return override, "study"
    if declared is None:
        raise UnreadableImageError(
            f"the file does not tell its resolution; expected µm per pixel; {remedy}"
        )
    across, down = declared
    if not all(MIN_MPP <= mpp <= MAX_MPP for mpp in declared):
        raise UnreadableImageError(
            f"the file says {across:g} × {down:g} µm per pixel; expected {MIN_MPP} to {MAX_MPP:g}; "
            f"{remedy}"
        )
    if abs(across / down - 1) > 0.05:
        raise UnreadableImageError(
            f"the file says {across:g} µm per pixel across and {down:g} down; expected square "
            f"pixels; {remedy}"
        )
    return (across + down) / 2, "slide"


def _require_size(width_mm: float, height_mm: float) -> None:
    if max(width_mm, height_mm) > MAX_SIDE_MM or width_mm * height_mm > MAX_AREA_MM2:
        raise UnreadableImageError(
            f"it measures {width_mm:.4g} × {height_mm:.4g} mm by its header; expected at most "
            f"{MAX_SIDE_MM:g} mm a side and {MAX_AREA_MM2:g} mm² in all, as glass has; if its "
            "resolution is wrong, say the right one in the study's mpp_override; else copy it again"
        )


def _check_overrides(overrides: Mapping[str, float], paths: Sequence[str]) -> list[Reject]:
    unmatched = []
    for key, mpp in overrides.items():
        if not MIN_MPP <= mpp <= MAX_MPP:
            raise SourceError(
                f"mpp_override of {key!r} is {mpp}; expected {MIN_MPP} to {MAX_MPP:g} µm per pixel"
            )
        if not any(_override({key: mpp}, path) for path in paths):
            reason = "mpp_override names a slide that is not there; correct or remove it"
            unmatched.append(_reject(key, reason))
    return unmatched


def _override(overrides: Mapping[str, float], path: str) -> float | None:
    name = path.rpartition("/")[2]
    patterns = [key for key in overrides if fnmatch.fnmatchcase(path, key)]
    patterns += [key for key in overrides if fnmatch.fnmatchcase(name, key)]
    key = next((key for key in (path, name, *patterns) if key in overrides), None)
    return None if key is None else overrides[key]


def _without_duplicates(
    slides: Iterable[SlideInfo],
) -> tuple[list[SlideInfo], list[Reject]]:
    """Keep one slide a content, and none where its copies name two patients."""
    copies: dict[str, list[SlideInfo]] = {}
    for slide in slides:
        copies.setdefault(slide.sha256, []).append(slide)
    kept, rejects = [], []
    for same in copies.values():
        first, *others = same
        if len({slide.patient_id for slide in same}) > 1:
            names = ", ".join(f"{slide.path} ({slide.patient_id})" for slide in same)
            reason = f"the same file is given for several patients: {names}; correct the patients"
            rejects += [_reject(slide.path, reason) for slide in same]
            continue
        kept.append(first)
        reason = f"the same file as {first.path}, which is kept"
        rejects += [_reject(slide.path, reason) for slide in others]
    return kept, rejects


def _reject(item: str, reason: str) -> Reject:
    return Reject(item, _STAGE, reason)
