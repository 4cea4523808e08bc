"""Slides: what is a slide and whose, which places become tiles, and what the store keeps."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from sqlalchemy import func, select

from featurestore.embeddings import coverage
from featurestore.errors import Reject, SourceError, UnreadableImageError
from featurestore.ledger import record_rejects
from featurestore.missing_tiles import iter_missing
from featurestore.slides import slides_of, write_slides
from featurestore.sources.slide_files import find_slides
from featurestore.sources.slide_overview import overview
from featurestore.sources.slide_pixels import read_area
from featurestore.sources.slide_tiles import read_place, read_tile
from featurestore.sources.slides import inspect_slide, inspect_slides, patient_of
from featurestore.sources.synthetic import tissue_tile
from featurestore.sources.synthetic_slides import draw_factors, write_cohort
from featurestore.sources.tiling import TilingSettings, tile_slide, tile_slides
from featurestore.tables import DatasetTile, Slide, Tile
from featurestore.tables import Patient as PatientRow

SETTINGS = TilingSettings(tile_px=64)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("slides")
    write_cohort(root, factors=draw_factors(3, seed=7), seed=7, slide_px=512)
    return root


@pytest.fixture
def slide(cohort):
    return inspect_slides(find_slides(cohort)).slides[0]


def write_tiff(file: Path, rgb: np.ndarray, *, mpp: tuple[float, float] | None = None) -> Path:
    kwargs = {}
    if mpp is not None:
        kwargs = {"resolution": (1e4 / mpp[0], 1e4 / mpp[1]), "resolutionunit": "CENTIMETER"}
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        file, rgb, tile=(128, 128), photometric="rgb", compression="deflate", metadata=None,
        **kwargs,
    )  # fmt: skip
    return file


def write_image(file: Path, side_px: int = 256, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tissue_tile("TUM", seed, seed=1, tile_px=side_px)).save(file)
    return file


def reasons(rejects) -> dict[str, str]:
    return {reject.item: reject.reason for reject in rejects}


# ---- which files, whose, and at which resolution


@pytest.mark.parametrize(
    ("path", "is_image", "patient"),
    [
        ("TCGA-05-4244-01Z-00-DX1.d4ff32cd.svs", False, "TCGA-05-4244"),
        ("0a1b-uuid/TCGA-05-4244-01Z-00-DX1.svs", False, "TCGA-05-4244"),
        ("tcga-05-4244.svs", False, "TCGA-05-4244"),
        ("TCGA-05-4244/TCGA-05-4244-01Z-00-DX1_001.png", True, "TCGA-05-4244"),
        ("case 7/region.png", True, "case 7"),
    ],
)
def test_names_tell_the_patient(path, is_image, patient):
    assert patient_of(path, is_image=is_image) == patient


@pytest.mark.parametrize(
    ("path", "is_image", "found"),
    [
        ("TCGA-A9K0-sub-1.svs", False, "no TCGA barcode"),
        ("case 7/slide.svs", False, "no TCGA barcode"),
        ("TCGA-05-4244_TCGA-05-4245.svs", False, "TCGA-05-4244 and TCGA-05-4245"),
        ("TCGA-05-4245/TCGA-05-4244_001.png", True, "TCGA-05-4244 and TCGA-05-4245"),
        ("TCGA-05-4244-11A-01-TS1.svs", False, "is no tumour (sample type 11)"),
    ],
)
def test_names_that_do_not_tell_the_patient(path, is_image, found):
    with pytest.raises(UnreadableImageError) as refused:
        patient_of(path, is_image=is_image)
    assert found in str(refused.value)


def test_resolution_comes_from_the_slide_or_the_study_and_never_from_a_guess(tmp_path: Path):
    rgb = tissue_tile("TUM", 0, seed=1, tile_px=256)
    for name, mpp in {"a": (0.25, 0.25), "b": None, "c": (352.8, 352.8), "d": (0.25, 0.5)}.items():
        rgb = rgb + np.uint8(1)  # another content
        write_tiff(tmp_path / f"TCGA-05-000{name.upper()}.tif", rgb, mpp=mpp)

    found = inspect_slides(find_slides(tmp_path))

    assert [(s.patient_id, s.mpp, s.mpp_source) for s in found.slides] == [
        ("TCGA-05-000A", pytest.approx(0.25), "slide")
    ]
    why = reasons(found.rejects)
    assert "does not tell its resolution" in why["TCGA-05-000B.tif"]
    assert "352.8 × 352.8 µm per pixel; expected 0.05 to 10" in why["TCGA-05-000C.tif"]
    assert "expected square pixels" in why["TCGA-05-000D.tif"]
    for name, reason in why.items():
        assert f'mpp_override = {{ "{name}" = 0.25 }}' in reason

    overrides = {"TCGA-05-000B.tif": 0.3, "*C.tif": 0.4, "*": 0.6, "TCGA-05-000A.tif": 0.7}
    found = inspect_slides(find_slides(tmp_path), mpp_override=overrides)
    assert [s.mpp for s in found.slides] == [0.7, 0.3, 0.4, 0.6]
    assert {s.mpp_source for s in found.slides} == {"study"}


def test_overrides_are_checked(tmp_path: Path):
    write_tiff(tmp_path / "TCGA-05-0001.tif", tissue_tile("TUM", 0, seed=1), mpp=(0.5, 0.5))
    files = find_slides(tmp_path)

    with pytest.raises(SourceError, match="is 250; expected 0.05 to 10"):
        inspect_slides(files, mpp_override={"TCGA-05-0001.tif": 250})
    (reject,) = inspect_slides(files, mpp_override={"typo.tif": 0.25}).rejects
    assert (reject.item, "is not there" in reject.reason) == ("typo.tif", True)


def test_table_of_patients_goes_before_names(tmp_path: Path):
    write_image(tmp_path / "s" / "TCGA-05-0001.png")
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\nTCGA-05-0001.png,me\ngone.png,nobody\n")

    found = inspect_slides(find_slides(tmp_path / "s"), patients=table, mpp_override={"*": 0.5})

    assert found.slides[0].patient_id == "me"
    assert "names an image that is not under" in reasons(found.rejects)["gone.png"]


def test_bad_slides_stop_nothing(tmp_path: Path):
    write_image(tmp_path / "TCGA-05-0001.png", seed=1)
    (tmp_path / "TCGA-05-0002.png").write_bytes((tmp_path / "TCGA-05-0001.png").read_bytes())
    (tmp_path / "TCGA-05-0003.svs").write_bytes(b"no slide")
    (tmp_path / "TCGA-05-0004.svs").write_bytes(b"")
    (tmp_path / "TCGA-05-0005.mrxs").write_bytes(b"index")
    write_image(tmp_path / "p" / "a.png", seed=2)
    (tmp_path / "p" / "b.png").write_bytes((tmp_path / "p" / "a.png").read_bytes())

    found = inspect_slides(find_slides(tmp_path), mpp_override={"*": 0.5})

    assert [slide.path for slide in found.slides] == ["p/a.png"]
    why = reasons(found.rejects)
    assert "given for several patients" in why["TCGA-05-0001.png"]
    assert why["p/b.png"] == "the same file as p/a.png, which is kept"
    assert "cannot be used as a tile" in why["TCGA-05-0003.svs"]
    assert "empty" in why["TCGA-05-0004.svs"]
    assert "a slide of several files" in why["TCGA-05-0005.mrxs"]


def test_patterns_and_listings(tmp_path: Path):
    for name in ("a.svs", "b.png", "deep/c.svs", ".hidden.svs", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    assert find_slides(tmp_path).paths == ("a.svs", "b.png", "deep/c.svs")
    assert find_slides(tmp_path / "*.svs").paths == ("a.svs",)
    assert find_slides(tmp_path / "**" / "*.svs").paths == ("a.svs", "deep/c.svs")
    assert find_slides(tmp_path / "b.png").root == tmp_path
    with pytest.raises(SourceError, match="no slide is there"):
        find_slides(tmp_path / "*.ndpi")

    before = find_slides(tmp_path).listing_sha256(None, {"mpp": 0.5})
    assert before == find_slides(tmp_path).listing_sha256(None, {"mpp": 0.5})
    assert before != find_slides(tmp_path).listing_sha256(None, {"mpp": 0.25})
    (tmp_path / "a.svs").write_bytes(b"xy")
    assert before != find_slides(tmp_path).listing_sha256(None, {"mpp": 0.5})


# ---- which places become tiles


@given(
    width=st.integers(32, 300),
    height=st.integers(32, 300),
    slide_mpp=st.sampled_from([0.2, 0.25, 0.4995, 0.5, 1.0]),
    max_tiles=st.one_of(st.none(), st.integers(1, 6)),
    seed=st.integers(0, 3),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tiles_lie_on_the_slide_apart_from_each_other(
    tmp_path_factory, width, height, slide_mpp, max_tiles, seed
):
    folder = tmp_path_factory.mktemp("any")
    rgb = tissue_tile("TUM", 0, seed=1, tile_px=300)[:height, :width]
    Image.fromarray(rgb).save(folder / "s.png")
    info = inspect_slide(folder, "s.png", patient_id="p", mpp_override=slide_mpp)
    wanted = TilingSettings(tile_px=32, max_tiles=None, min_sharpness=0)

    whole = tile_slide(info, wanted)
    some = tile_slide(info, replace(wanted, max_tiles=max_tiles, seed=seed))

    side = 32 * 0.5 / slide_mpp if slide_mpp != 0.4995 else 32
    places = [(tile.x_px, tile.y_px) for tile in whole.tiles]
    assert all(0 <= x <= width - side + 1e-6 and 0 <= y <= height - side + 1e-6 for x, y in places)
    for i, (x, y) in enumerate(places):
        assert all(max(abs(x - u), abs(y - v)) >= side - 1 for u, v in places[:i])
    assert whole.n_grid == int(width / side + 1e-9) * int(height / side + 1e-9)
    assert whole.n_grid == len(whole.tiles) + sum(whole.n_rejected.values())
    assert set(some.tiles) <= set(whole.tiles)
    assert len(some.tiles) == min(len(whole.tiles), max_tiles or len(whole.tiles))
    again = tile_slide(info, replace(wanted, max_tiles=max_tiles, seed=seed))
    assert again.tiles == some.tiles
    assert (whole.reject is None) == bool(whole.tiles)


def test_field_of_view_is_what_counts(tmp_path: Path):
    """The same tissue scanned at two resolutions gives the same tile."""
    fine = tissue_tile("TUM", 3, seed=1, tile_px=512)
    coarse = np.asarray(Image.fromarray(fine).reduce(2))
    write_tiff(tmp_path / "fine.tif", fine, mpp=(0.25, 0.25))
    write_tiff(tmp_path / "coarse.tif", coarse, mpp=(0.5, 0.5))

    tiles = [
        tile_slide(inspect_slide(tmp_path, name, patient_id="p"), SETTINGS)
        for name in ("fine.tif", "coarse.tif")
    ]

    assert [len(t.tiles) for t in tiles] == [16, 16]
    for a, b in zip(tiles[0].tiles, tiles[1].tiles, strict=True):
        assert (a.x_px, a.y_px) == (2 * b.x_px, 2 * b.y_px)
        pixels = [
            read_place(t.slide.file, t.place(tile)).astype(int)
            for t, tile in zip(tiles, (a, b), strict=True)
        ]
        assert np.abs(pixels[0] - pixels[1]).mean() < 4
        shifted = np.roll(pixels[0], 1, axis=0) - pixels[1]
        assert np.abs(shifted).mean() > 8


def test_fitting_level_is_read_as_it_is(slide):
    tiled = tile_slide(slide, TilingSettings(mpp=1.0, tile_px=64))
    tile = tiled.tiles[0]

    import openslide

    level1 = openslide.OpenSlide(slide.file).read_region((tile.x_px, tile.y_px), 1, (64, 64))
    np.testing.assert_array_equal(
        read_place(slide.file, tiled.place(tile)), np.asarray(level1)[..., :3]
    )


def test_overview_in_blocks_is_the_overview_at_once(slide, monkeypatch):
    at_once = overview(slide.file, 7.3).rgb.astype(int)
    monkeypatch.setattr("featurestore.sources.slide_overview._BLOCK_PX", 100)

    off = np.abs(overview(slide.file, 7.3).rgb - at_once)
    assert off.max() <= 25  # at the seams
    assert off.mean() < 1


def test_every_reason_is_counted(tmp_path: Path):
    tiles = [[tissue_tile("TUM", 4 * i + j, seed=1, tile_px=64) for j in range(4)] for i in (0, 1)]
    tiles[0][1] = np.full((64, 64, 3), 244, np.uint8)
    tiles[0][2] = np.asarray(Image.fromarray(tiles[0][2]).filter(ImageFilter.GaussianBlur(6)))
    tiles[1][0] = np.full((64, 64, 3), (20, 150, 70), np.uint8)
    write_tiff(tmp_path / "s.tif", np.vstack([np.hstack(row) for row in tiles]), mpp=(0.5, 0.5))

    tiled = tile_slide(inspect_slide(tmp_path, "s.tif", patient_id="p"), SETTINGS)

    assert tiled.n_rejected == {
        "background": 1, "pen": 1, "blur": 1, "stain": 0, "unreadable": 0
    }  # fmt: skip
    assert [(t.x_px, t.y_px) for t in tiled.tiles] == [
        (0, 0), (192, 0), (64, 64), (128, 64), (192, 64)
    ]  # fmt: skip
    assert tiled.thumbnail.dtype == np.uint8
    assert (tiled.thumbnail == (20, 60, 220)).all(axis=2).any()


def test_stain_that_fails_drops_the_tile_and_is_counted(tmp_path: Path):
    grey = np.random.default_rng(0).integers(90, 170, (64, 64, 1)).repeat(3, axis=2)
    good = tissue_tile("TUM", 0, seed=1, tile_px=64)
    pink = grey + np.array([30, 0, 15])
    write_tiff(tmp_path / "s.tif", np.hstack([good, pink.astype(np.uint8)]), mpp=(0.5, 0.5))
    info = inspect_slide(tmp_path, "s.tif", patient_id="p")

    plain, normal = (
        tile_slide(info, replace(SETTINGS, stain=stain)) for stain in ("none", "macenko")
    )

    assert len(plain.tiles) == 2
    assert len(normal.tiles) + normal.n_rejected["stain"] == 2
    tile = normal.tiles[0]
    assert normal.place(tile).sha256 != plain.place(tile).sha256
    assert not np.array_equal(*(read_place(info.file, t.place(tile)) for t in (plain, normal)))


def test_slide_without_a_tile_says_why(tmp_path: Path):
    write_image(tmp_path / "small.png", side_px=60)
    Image.new("RGB", (200, 200), (244, 244, 244)).save(tmp_path / "glass.png")
    small, glass = (
        tile_slide(inspect_slide(tmp_path, name, patient_id="p", mpp_override=0.5), SETTINGS)
        for name in ("small.png", "glass.png")
    )

    assert "30 × 30 µm, smaller than one tile of 32 µm" in small.reject.reason
    assert "all of 9 places were left out (9 background)" in glass.reject.reason


@pytest.mark.parametrize("levels", [(0,), (0, 1)])
def test_damage_in_the_middle_costs_its_tiles_only(cohort, tmp_path: Path, levels):
    """One JPEG of four of level 0 is gone, and the one of level 1 that the overview is of."""
    original = sorted(cohort.glob("*.tif"))[0]
    content = bytearray(original.read_bytes())
    with tifffile.TiffFile(original) as tiff:
        for level in levels:
            page = tiff.pages[level]
            start, length = page.dataoffsets[-1], page.databytecounts[-1]
            content[start : start + length] = bytes(length)
    (tmp_path / original.name).write_bytes(content)
    info = replace(inspect_slide(cohort, original.name, patient_id="p"), root=tmp_path)

    whole = tile_slide(replace(info, root=cohort), SETTINGS)
    if levels == (0, 1):
        with pytest.raises(UnreadableImageError, match="the file is damaged there"):
            tile_slide(info, SETTINGS)
        return
    damaged = tile_slide(info, SETTINGS)

    lost = {t for t in whole.tiles if t.x_px + 64 > 256 and t.y_px + 64 > 256}
    assert damaged.n_rejected["unreadable"] == len(lost) > 0
    assert set(damaged.tiles) == set(whole.tiles) - lost


def test_damage_of_an_only_level_costs_its_part_only(tmp_path: Path):
    rgb = np.hstack([tissue_tile("TUM", i, seed=1, tile_px=512) for i in range(2)])
    file = write_tiff(tmp_path / "s.tif", rgb, mpp=(0.5, 0.5))
    with tifffile.TiffFile(file) as tiff:
        start, length = tiff.pages[0].dataoffsets[7], tiff.pages[0].databytecounts[7]
    info = inspect_slide(tmp_path, "s.tif", patient_id="p")
    whole = tile_slide(info, SETTINGS)
    content = bytearray(file.read_bytes())
    content[start : start + length] = bytes(length)
    file.write_bytes(content)

    damaged = tile_slide(info, SETTINGS)

    lost = {t for t in whole.tiles if t.x_px >= 768 and t.y_px < 256}
    assert damaged.n_rejected["unreadable"] > 0
    assert set(whole.tiles) - lost <= set(damaged.tiles) < set(whole.tiles)


def test_bad_slide_among_good_ones(cohort, tmp_path: Path):
    slides = inspect_slides(find_slides(cohort)).slides
    gone = replace(slides[0], root=tmp_path)

    first, *others = tile_slides([gone, *slides[1:]], SETTINGS)

    assert isinstance(first, Reject)
    assert (first.stage, "put it back" in first.reason) == ("tile", True)
    assert [tiles.slide for tiles in others] == list(slides[1:])


@pytest.mark.parametrize(
    "wrong",
    [{"mpp": 50.0}, {"tile_px": 8}, {"max_tiles": 0}, {"min_tissue": 0.0}, {"stain": "vahadane"}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TilingSettings(**wrong)


# ---- what the store keeps


@pytest.fixture
def tiled(cohort):
    return list(tile_slides(inspect_slides(find_slides(cohort)).slides, SETTINGS))


def write(session, cohort, tiled, listing="0" * 64):
    return write_slides(session, cohort, tiled, listing_sha256=listing)


def test_written_once_however_often(session, cohort, tiled):
    first = write(session, cohort, tiled)
    again = write(session, cohort, reversed(tiled), listing="1" * 64)

    n_tiles = sum(len(tiles.tiles) for tiles in tiled)
    assert first.n_tiles == n_tiles == first.n_new_tiles
    assert (again.dataset_id, again.digest, again.n_new_tiles) == (
        first.dataset_id, first.digest, 0
    )  # fmt: skip
    stored = slides_of(session, first.dataset_id)
    assert [(s.path, s.n_tiles) for s in stored] == [
        (tiles.slide.path, len(tiles.tiles)) for tiles in tiled
    ]
    labels = select(func.count()).where(
        DatasetTile.dataset_id == first.dataset_id, DatasetTile.label.is_not(None)
    )
    assert session.scalar(labels) == 0
    site = select(PatientRow.tissue_source_site).where(PatientRow.patient_id == "TCGA-0A-0001")
    assert session.scalar(site) == "0A"


def test_other_settings_are_another_data_set_of_the_same_slides(session, cohort, tiled):
    first = write(session, cohort, tiled)
    fewer = [tile_slide(t.slide, replace(SETTINGS, max_tiles=5)) for t in tiled]
    normal = [tile_slide(t.slide, replace(SETTINGS, stain="macenko")) for t in tiled]

    second, third = write(session, cohort, fewer), write(session, cohort, normal)

    assert len({first.digest, second.digest, third.digest}) == 3
    assert second.n_new_tiles == 0
    assert third.n_new_tiles == third.n_tiles
    assert session.scalar(select(func.count()).select_from(Slide)) == len(tiled)


def test_slides_of_two_patients_or_without_tiles_are_left_out(session, cohort, tiled, tmp_path):
    write(session, cohort, tiled)
    other = replace(tiled[0], slide=replace(tiled[0].slide, patient_id="someone else"))
    empty = replace(tiled[1], tiles=())

    written = write(session, cohort, [other, empty, tiled[2]])

    assert written.n_tiles == len(tiled[2].tiles)
    why = reasons(written.rejects)
    assert f"from patient {tiled[0].slide.patient_id}" in why[other.slide.path]
    assert "no tile" in why[empty.slide.path]
    with pytest.raises(SourceError, match="not one tile of any slide is left"):
        write(session, cohort, [other])


def test_tiles_of_a_slide_follow_each_other(session, cohort, tiled):
    written = write(session, cohort, tiled)

    rows = session.execute(
        select(Tile.slide_id, Tile.y_px, Tile.x_px)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .where(DatasetTile.dataset_id == written.dataset_id)
        .order_by(Tile.tile_id)
    ).all()
    n_changes = sum(a[0] != b[0] for a, b in itertools.pairwise(rows))
    assert n_changes == len(tiled) - 1
    assert all(a < b for a, b in itertools.pairwise(rows) if a[0] == b[0])


def test_missing_tiles_say_where_they_are(engine, cohort, tiled):
    from sqlalchemy.orm import Session

    with Session(engine) as session:
        written = write(session, cohort, tiled)
        session.commit()

        missing = list(iter_missing(engine, 0, written.dataset_id))
        assert len(missing) == written.n_tiles
        for tile in (missing[0], missing[-1]):
            assert tile.place.sha256 == tile.sha256
            assert read_tile(tile.path, tile.place, tile.sha256).shape == (64, 64, 3)

        before = coverage(session, 0, written.dataset_id, "slides study")
        item = f"{missing[0].path.name}{missing[0].place.on_slide}"
        record_rejects(session, "slides study", [Reject(item, "embed", "unreadable")], run_id=None)
        after = coverage(session, 0, written.dataset_id, "slides study")
        assert (before.n_rejected, after.n_rejected) == (0, 1)
        assert after.n_missing == before.n_missing - 1


def test_corrected_resolution_is_stored_and_old_tiles_are_not_read(session, cohort, tiled):
    write(session, cohort, tiled)
    slide = replace(tiled[0].slide, mpp=0.25, mpp_source="study")
    corrected = tile_slide(slide, SETTINGS)

    write(session, cohort, [corrected])

    row = session.scalars(select(Slide).where(Slide.sha256 == slide.sha256)).one()
    assert (row.mpp, row.mpp_source) == (0.25, "study")
    old = tiled[0].place(tiled[0].tiles[0])
    now = replace(old, slide_mpp=row.mpp)
    with pytest.raises(UnreadableImageError, match="was corrected to 0.25 µm per pixel"):
        read_tile(slide.file, now, old.sha256)


# ---- real slides


def test_real_slides_are_met_as_they_are(shared_data, tmp_path: Path):
    table = tmp_path / "patients.csv"
    names = ["CMU-1-Small-Region.svs", "TCGA-A9K0-sub-1.svs", "boxes.tiff", "unopenable.tiff"]
    rows = [f"{name},patient {name}" for name in [*names, "unreadable.svs"]]
    table.write_text("\n".join(["file,patient", *rows]))
    files = find_slides(shared_data / "wsi")

    found = inspect_slides(files, patients=table)

    why = reasons(found.rejects)
    assert set(why) == {
        "TCGA-CR-7395-01A-01-TS1.svs", "boxes.tiff", "unopenable.tiff", "unreadable.svs"
    }  # fmt: skip
    assert "does not tell its resolution" in why["TCGA-CR-7395-01A-01-TS1.svs"]
    assert "352.778 × 352.778 µm per pixel" in why["boxes.tiff"]
    assert "cannot be opened as a slide" in why["unopenable.tiff"]
    assert "pixels cannot be decoded" in why["unreadable.svs"]

    override = {"TCGA-CR-7395-01A-01-TS1.svs": 0.25}
    found = inspect_slides(files, patients=table, mpp_override=override)
    tiled = {t.slide.path: t for t in tile_slides(found.slides, TilingSettings(stain="macenko"))}
    assert {path: (len(t.tiles), t.n_grid) for path, t in tiled.items()} == {
        "CMU-1-Small-Region.svs": (50, 117),
        "TCGA-A9K0-sub-1.svs": (4, 4),
        "TCGA-CR-7395-01A-01-TS1.svs": (49, 63),
    }


def test_real_regions_give_every_patient_a_tile(shared_data):
    files = find_slides(shared_data / "tcga_luad_tiles")
    found = inspect_slides(files, mpp_override={"*": 0.25})
    assert found.rejects == ()

    counts: dict[str, int] = {}
    for tiles in tile_slides(found.slides, TilingSettings(mpp=0.25)):
        patient = tiles.slide.patient_id
        counts[patient] = counts.get(patient, 0) + len(tiles.tiles)
    assert len(counts) == 9
    assert min(counts.values()) >= 1


def test_area_beyond_a_level_is_not_mixed_with_white(slide):
    px = slide.width_px
    edge = read_area(slide.file, x_px=px - 101.5, y_px=5, width_px=101.5, height_px=101.5,
                     to_px=(50, 50))  # fmt: skip
    inside = read_area(slide.file, x_px=px - 103.5, y_px=5, width_px=101.5, height_px=101.5,
                       to_px=(50, 50))  # fmt: skip

    assert np.abs(edge[:, -1].astype(int) - inside[:, -1]).mean() < 12
