"""Files of features, laid out as each tool writes them, and everything that may be wrong.

The writers below follow the tools' own code, named at each of them.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featurestore.errors import Reject, SourceError, UnreadableFeaturesError
from featurestore.imported import ImportedSlide, ImportSettings, read_imports
from featurestore.imported_versions import imported_version, settle
from featurestore.sources.feature_files import find_features, read_feature_file
from featurestore.sources.slides import SlideInfo
from models.feature_tensors import read_tensor

COORDS = np.array([[0, 0], [512, 0], [0, 512], [512, 512]], np.int64)
FEATURES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
SLIDE = SlideInfo(Path("/slides"), "a.svs", "a" * 64, "p1", 4000, 3000, 0.25, "slide", (1.0,))


def save_h5(file: Path, assets: dict, attributes: dict | None = None) -> Path:
    """As ``save_h5`` of TRIDENT and ``save_hdf5`` of CLAM: resizable, a chunk a row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as opened:
        for key, value in assets.items():
            dataset = opened.create_dataset(
                key,
                shape=value.shape,
                maxshape=(None, *value.shape[1:]),
                chunks=(1, *value.shape[1:]),
                dtype=value.dtype,
            )
            dataset[:] = value
            for name, told in (attributes or {}).get(key, {}).items():
                dataset.attrs[name] = "None" if told is None else told
    return file


def trident(file: Path, features=FEATURES, coords=COORDS, **changed) -> Path:
    """``extract_patch_features`` of trident/wsi_objects/WSI.py; attributes of ``coords_to_h5``."""
    attributes = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": file.stem,
        "savetodir": "out",
        "level0_width": 4000,
        "level0_height": 3000,
    } | changed
    about = {"name": file.stem, "savetodir": "out", "encoder": "uni_v1"}
    return save_h5(
        file, {"features": features, "coords": coords}, {"features": about, "coords": attributes}
    )


def clam(folder: Path, name: str, *, level: int = 1, downsample=(2.0, 2.0)) -> tuple[Path, Path]:
    """``extract_features_fp.py``, and ``process_contours`` of wsi_core/WholeSlideImage.py."""
    patches = folder / "patches" / f"{name}.h5"
    save_h5(
        patches,
        {"coords": COORDS},
        {
            "coords": {
                "patch_size": 256,
                "patch_level": level,
                "downsample": downsample,
                "downsampled_level_dim": (2000, 1500),
                "level_dim": (2000, 1500),
                "name": name,
                "save_path": "out/patches",
            }
        },
    )
    file = folder / "features" / "h5_files" / f"{name}.h5"
    return save_h5(file, {"features": FEATURES, "coords": COORDS.astype(np.int32)}), patches.parent


def stamp(file: Path, version: str, coords_um=COORDS * 0.25, feats=FEATURES) -> Path:
    """``extract_`` of src/stamp/preprocessing/__init__.py: 1, 2.0 and 2.1 differ in attributes."""
    with h5py.File(file, "w") as opened:
        opened["coords"] = coords_um.astype(np.float32)
        opened["feats"] = feats.astype(np.float16)
        opened.attrs["extractor"] = "uni"
        if version != "1":
            opened.attrs["stamp_version"] = version
            opened.attrs["unit"] = "um"
        if version == "2.0.0":
            opened.attrs["tile_size"] = 256.0
        elif version != "1":
            opened.attrs["tile_size_um"] = 256.0
            opened.attrs["tile_size_px"] = 224
            opened.attrs["code_hash"] = "0123abcd"
            opened.attrs["feat_type"] = "tile"
    return file


def slide2vec(folder: Path, name: str, *, suffix: str = "npz", old: bool = False) -> Path:
    """``write_tile_embeddings`` of slide2vec/artifacts.py; ``save_tiling_result`` of hs2p."""
    tiles, embeddings = folder / "tiles", folder / "tile_embeddings"
    for made in (tiles, embeddings):
        made.mkdir(parents=True, exist_ok=True)
    index = np.arange(len(COORDS), dtype=np.int32)
    places = {"x": COORDS[:, 0], "y": COORDS[:, 1]} if old else {"coordinates": COORDS}
    np.savez_compressed(
        tiles / f"{name}.coordinates.npz",
        tile_index=index,
        tissue_fractions=np.ones(len(COORDS), np.float32),
        **places,
    )
    tiling = {
        "requested_tile_size_px": 256,
        "requested_spacing_um": 0.5,
        "effective_tile_size_px": 512,
        "tile_size_lv0": 512,
    }
    if old:
        flat = {"target_tile_size_px": 256, "target_spacing_um": 0.5, "tile_size_lv0": 512}
        (tiles / f"{name}.coordinates.meta.json").write_text(json.dumps(flat))
    else:
        told = {"format_version": 2, "tiling": tiling, "slide": {"base_spacing_um": 0.25}}
        (tiles / f"{name}.coordinates.meta.json").write_text(json.dumps(told))
    file = embeddings / f"{name}.{suffix}"
    if suffix == "npz":
        np.savez_compressed(file, features=FEATURES, tile_index=index.astype(np.int64))
    else:
        import torch

        torch.save(torch.from_numpy(FEATURES), file)
    meta = {"artifact_type": "tile_embeddings", "encoder_name": "uni", "tile_size_lv0": 512}
    (embeddings / f"{name}.meta.json").write_text(json.dumps(meta))
    return file


def read(file: Path, patches: Path | None = None):
    return read_feature_file(file, read_tensor=read_tensor, patches=patches)


# ---- every layout


def test_trident(tmp_path: Path):
    found = read(trident(tmp_path / "a.h5"))
    assert (found.layout, found.coords_in_um) == ("TRIDENT", False)
    assert np.array_equal(found.features, FEATURES)
    assert np.array_equal(found.coords, COORDS)
    assert found.size.mpp(0.25) == 0.5
    assert found.size.tile_px == 256


def test_trident_of_a_batch_of_one_and_without_the_side_on_level_0(tmp_path: Path):
    file = trident(tmp_path / "a.h5", FEATURES[None], patch_size_level0=None)
    found = read(file)
    assert np.array_equal(found.features, FEATURES)
    assert found.size.level0_px == 512


@pytest.mark.parametrize(("level", "downsample", "side"), [(1, (2.0, 2.0), 512), (0, (1, 1), 256)])
def test_clam_with_its_patches(tmp_path: Path, level: int, downsample, side: int):
    file, patches = clam(tmp_path, "a", level=level, downsample=downsample)
    found = read(file, patches)
    assert (found.layout, found.size.tile_px, found.size.level0_px) == ("CLAM", 256, side)
    assert read(file).size is None


def test_clam_whose_patches_do_not_fit(tmp_path: Path):
    file, patches = clam(tmp_path, "a")
    save_h5(patches / "a.h5", {"coords": COORDS + 1}, {"coords": {"patch_size": 256}})
    with pytest.raises(UnreadableFeaturesError, match="other coordinates than its patch file"):
        read(file, patches)
    with pytest.raises(UnreadableFeaturesError, match="correct `patches`"):
        read(file, tmp_path)


def test_stamp_of_three_generations(tmp_path: Path):
    um = COORDS / 512 * 256.0
    new = read(stamp(tmp_path / "new.h5", "2.3.0", um))
    middle = read(stamp(tmp_path / "middle.h5", "2.0.0", um))
    old = read(stamp(tmp_path / "old.h5", "1", COORDS / 512 * 224.0))
    for found in (new, middle, old):
        assert (found.layout, found.coords_in_um) == ("STAMP", True)
        assert np.allclose(found.coords, um)
        assert found.size.mpp(0.25) == pytest.approx(256 / 224)
        assert np.array_equal(found.features, FEATURES.astype(np.float16).astype(np.float32))


def test_stamp_that_tells_no_unit_or_a_slide(tmp_path: Path):
    with pytest.raises(UnreadableFeaturesError, match="does not tell the unit"):
        read(stamp(tmp_path / "a.h5", "1", COORDS / 512 * 300.0))
    file = stamp(tmp_path / "b.h5", "2.3.0")
    with h5py.File(file, "a") as opened:
        opened.attrs["feat_type"] = "patient"
    with pytest.raises(UnreadableFeaturesError, match="features of a patient"):
        read(file)


@pytest.mark.parametrize("suffix", ["npz", "pt"])
@pytest.mark.parametrize("old", [False, True])
def test_slide2vec(tmp_path: Path, suffix: str, old: bool):
    found = read(slide2vec(tmp_path, "a", suffix=suffix, old=old))
    assert found.layout == "slide2vec"
    assert np.array_equal(found.features, FEATURES)
    assert np.array_equal(found.coords, COORDS)
    assert (found.size.tile_px, found.size.level0_px) == (256, 512)


# ---- what is refused


def test_a_tensor_without_coordinates(tmp_path: Path):
    file = slide2vec(tmp_path, "a", suffix="pt")
    (tmp_path / "tiles" / "a.coordinates.npz").unlink()
    with pytest.raises(UnreadableFeaturesError, match="without coordinates"):
        read(file)


def test_nothing_is_unpickled(tmp_path: Path):
    import torch

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    file = slide2vec(tmp_path, "a", suffix="pt")
    torch.save({"features": Evil()}, file)
    with pytest.raises(UnreadableFeaturesError, match="never loaded"):
        read(file)
    npz = slide2vec(tmp_path, "b")
    np.savez(npz, features=np.array([Evil()], dtype=object))
    with pytest.raises(UnreadableFeaturesError, match="never loaded"):
        read(npz)
    bare = tmp_path / "c.pt"
    bare.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UnreadableFeaturesError, match="neither HDF5 nor an archive"):
        read(bare)
    assert not (tmp_path / "executed").exists()


def test_a_file_that_leads_into_another_one(tmp_path: Path):
    trident(tmp_path / "secret.h5")
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as opened:
        opened["features"] = h5py.ExternalLink("secret.h5", "features")
        opened["coords"] = COORDS
    with pytest.raises(UnreadableFeaturesError, match="lies in another file"):
        read(file)


def test_a_few_bytes_that_declare_a_lot(tmp_path: Path):
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("features", (10**9, 1024), "f4", chunks=(1, 1024))
        opened["coords"] = COORDS
    with pytest.raises(UnreadableFeaturesError, match="declares 4096000000000 bytes"):
        read(file)


def test_truncated_files_at_any_length(tmp_path: Path):
    whole = trident(tmp_path / "a.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(UnreadableFeaturesError):
            read(cut)
    archive = slide2vec(tmp_path, "b", suffix="pt")
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UnreadableFeaturesError):
        read(archive)


@pytest.mark.parametrize(
    ("features", "coords", "message"),
    [
        (FEATURES[:3], COORDS, "3 vectors but 4 coordinates"),
        (FEATURES[:0], COORDS[:0], "no tile"),
        (FEATURES[0], COORDS, "features of shape"),
        (FEATURES, COORDS[:, :1], "coordinates of shape"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, features, coords, message: str):
    with pytest.raises(UnreadableFeaturesError, match=message):
        read(trident(tmp_path / "a.h5", features, coords))


def test_other_hdf5_files(tmp_path: Path):
    file = save_h5(tmp_path / "a.h5", {"imgs": FEATURES})
    with pytest.raises(UnreadableFeaturesError, match="HDF5 with imgs"):
        read(file)


# ---- placed on slides


def place(folder: Path, pattern: str = "*.h5", slides=(SLIDE,), **settings):
    asked = ImportSettings(network="UNI", **settings)
    files = find_features(str(folder / pattern))
    outcomes = list(read_imports(files, slides, asked, read_tensor=read_tensor))
    imported = [found for found in outcomes if isinstance(found, ImportedSlide)]
    return imported, [found for found in outcomes if isinstance(found, Reject)]


def test_tiles_get_their_place_on_the_slide(tmp_path: Path):
    trident(tmp_path / "a.h5", FEATURES[::-1], COORDS[::-1])
    (imported,), rejects = place(tmp_path)
    assert not rejects
    # From top to bottom, then from left to right, whatever the file's order is.
    assert [(t.x_px, t.y_px) for t in imported.tiles.tiles] == [tuple(c) for c in COORDS.tolist()]
    assert np.array_equal(imported.features, FEATURES)
    tile = imported.tiles.place(imported.tiles.tiles[1])
    assert (tile.x_px, tile.tile_px, tile.mpp, tile.slide_sha256) == (512, 256, 0.5, "a" * 64)


def test_micrometres_become_pixels_of_level_0(tmp_path: Path):
    stamp(tmp_path / "a.h5", "2.3.0")
    (imported,), _ = place(tmp_path)
    assert [(t.x_px, t.y_px) for t in imported.tiles.tiles] == [tuple(c) for c in COORDS.tolist()]


def test_bad_tiles_cost_themselves_only(tmp_path: Path):
    features = np.vstack([FEATURES, FEATURES, FEATURES[:1]])
    coords = np.vstack([COORDS, COORDS + 1024, COORDS[:1]])
    features[1, 2] = np.nan
    features[2] = 0
    features[5, 0] = 1e6
    coords[3] = (9000, 0)
    coords[6] = (-1, 0)
    trident(tmp_path / "a.h5", features, coords)
    (imported,), rejects = place(tmp_path)
    assert len(imported.tiles.tiles) == len(imported.features) == 3
    why = [reject.reason for reject in rejects]
    assert "2 of 9 tiles lie outside the slide (first: row 3)" in why[0]
    assert "3 of 9 tiles have features that are NaN" in why[1]
    assert "1 of 9 tiles are named twice" in why[2]
    assert {(reject.item, reject.stage) for reject in rejects} == {("a.h5", "import")}


def test_bad_files_cost_themselves_only(tmp_path: Path):
    trident(tmp_path / "a.h5")
    trident(tmp_path / "b.h5", np.full_like(FEATURES, np.nan))
    trident(tmp_path / "c.h5", coords=COORDS + 100_000)
    trident(tmp_path / "nobody.h5")
    (tmp_path / "d.h5").write_bytes(b"not a file of features")
    (tmp_path / "sub").mkdir()
    trident(tmp_path / "sub" / "a.h5")
    slides = [SlideInfo(Path("/s"), f"{n}.svs", n * 64, n, 4000, 3000, 0.25, "slide", (1.0,))
              for n in "abcd"]  # fmt: skip
    imported, rejects = place(tmp_path, "**/*.h5", slides)
    assert [found.path for found in imported] == ["a.h5"]
    why = {reject.item: reject.reason for reject in rejects}
    assert "has not one usable tile" in why["b.h5"]
    assert "outside its slide" in why["c.h5"]
    assert "neither HDF5" in why["d.h5"]
    assert "belongs to no slide" in why["nobody.h5"]
    assert "the same slide as a.h5" in why["sub/a.h5"]


def test_slides_of_one_name_and_names_with_dots(tmp_path: Path):
    trident(tmp_path / "TCGA-05-4244-01Z-00-DX1.d4ff32cd.h5")
    names = ["x/TCGA-05-4244-01Z-00-DX1.d4ff32cd.svs", "y/TCGA-05-4244-01Z-00-DX1.d4ff32cd.tif"]
    slides = [
        SlideInfo(Path("/s"), n, str(i) * 64, "p", 4000, 3000, 0.25, "slide", (1.0,))
        for i, n in enumerate(names)
    ]
    assert len(place(tmp_path, slides=slides[:1])[0]) == 1
    _, (reject,) = place(tmp_path, slides=slides)
    assert "may belong to x/" in reject.reason


def test_what_the_study_says_must_hold(tmp_path: Path):
    trident(tmp_path / "a.h5")
    for wrong, message in (
        ({"dim": 5}, "holds 6 features a tile; expected 5"),
        ({"tile_px": 224}, "tiles of 256 px; expected 224"),
        ({"mpp": 0.25}, "expected 0.25, as `mpp` says"),
        ({"mpp": 0.5, "input_px": 224}, "0.571 in the network's input"),
    ):
        imported, (reject,) = place(tmp_path, **wrong)
        assert not imported
        assert message in reject.reason
    assert place(tmp_path, dim=6, tile_px=256, mpp=0.52)[0]


def test_clam_needs_the_size_of_its_tiles_from_somewhere(tmp_path: Path):
    file, _ = clam(tmp_path, "a")
    _, (reject,) = place(file.parent)
    assert "`patches`" in reject.reason
    (imported,), _ = place(file.parent, tile_px=256, mpp=0.5)
    assert imported.tiles.settings.mpp == 0.5


def test_no_file_at_all(tmp_path: Path):
    with pytest.raises(SourceError, match="no file of features is there"):
        find_features(str(tmp_path / "*.h5"))


def test_listing_knows_what_goes_with_a_file(tmp_path: Path):
    slide2vec(tmp_path, "a")
    pattern = str(tmp_path / "tile_embeddings" / "*.npz")
    before = find_features(pattern).listing_sha256
    assert before == find_features(pattern).listing_sha256
    (tmp_path / "tiles" / "a.coordinates.meta.json").write_text("{}")
    assert before != find_features(pattern).listing_sha256


# ---- what identifies them


def test_features_stand_in_for_unknown_weights(tmp_path: Path):
    trident(tmp_path / "a.h5")
    (imported,), _ = place(tmp_path)
    settings, kept, _ = settle([imported], ImportSettings(network="UNI"))
    version = imported_version(settings, [imported.sha256])
    assert (version.dim, version.input_px, version.precision) == (6, 256, "unknown")
    trident(tmp_path / "a.h5", FEATURES + 1e-3)
    (changed,), _ = place(tmp_path)
    assert imported_version(settings, [changed.sha256]).sha256 != version.sha256
    known = ImportSettings(network="UNI", weights_sha256="b" * 64, dim=6, tile_px=256)
    same = {imported_version(known, [x.sha256]).sha256 for x in (imported, changed)}
    assert len(same) == 1
    assert kept == (imported,)


def test_most_files_decide_the_dimension(tmp_path: Path):
    slides = []
    for number, name in enumerate("abc"):
        trident(tmp_path / f"{name}.h5", FEATURES[:, : 6 if name != "b" else 5])
        slides.append(
            SlideInfo(
                Path("/s"), f"{name}.svs", str(number) * 64, name, 4000, 3000, 0.25, "slide", (1.0,)
            )
        )
    imported, _ = place(tmp_path, slides=slides)
    settings, kept, (reject,) = settle(imported, ImportSettings(network="UNI"))
    assert (settings.dim, settings.tile_px) == (6, 256)
    assert [found.path for found in kept] == ["a.h5", "c.h5"]
    assert reject.item == "b.h5"
    with pytest.raises(SourceError, match="not one file"):
        settle([], settings)


@given(
    coords=hnp.arrays(np.int64, (7, 2), elements=st.integers(-2000, 6000)),
    features=hnp.arrays(np.float32, (7, 3), elements=st.floats(width=32)),
)
def test_whatever_a_file_holds_only_sound_tiles_of_the_slide_come_out(
    tmp_path_factory, coords, features
):
    folder = tmp_path_factory.mktemp("any")
    trident(folder / "a.h5", features, coords)
    imported, rejects = place(folder)
    assert imported or rejects
    for found in imported:
        places = [(tile.x_px, tile.y_px) for tile in found.tiles.tiles]
        assert len(set(places)) == len(places) == len(found.features)
        assert all(0 <= x < 4000 and 0 <= y < 3000 for x, y in places)
        halves = found.features.astype(np.float16)
        assert np.isfinite(halves).all()
        assert (halves != 0).any(axis=1).all()
