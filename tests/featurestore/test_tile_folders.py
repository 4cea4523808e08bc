"""A folder of tiles: what is read, what is left out and why, and what its digests tell."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore.errors import SourceError
from featurestore.sources.images import pixel_sha256
from featurestore.sources.tile_folders import TileFile, listing_sha256, read_tile_folder


def _image(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 36, 3), dtype=np.uint8)


def _write(root, *paths, seed=None):
    """Write an image at each path; by default each its own."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_image(number if seed is None else seed)).save(root / path)


def _paths(folder):
    return [tile.path for tile in folder.tiles]


def _reasons(folder):
    assert {reject.stage for reject in folder.rejects} <= {"ingest"}
    return {reject.item: reject.reason for reject in folder.rejects}


def _refused(*parts, root, **options):
    with pytest.raises(SourceError) as caught:
        read_tile_folder(root, **options)
    for part in parts:
        assert part in str(caught.value)


def test_layout_labels_sizes_and_digests(tmp_path):
    _write(tmp_path, "TUM/a.png", "ADI/x/deep/b.tif", "ADI/c.bmp")
    folder = read_tile_folder(tmp_path)
    expected = [
        TileFile("ADI/c.bmp", "ADI", pixel_sha256(_image(2)), 36, 40, None),
        TileFile("ADI/x/deep/b.tif", "ADI", pixel_sha256(_image(1)), 36, 40, None),
        TileFile("TUM/a.png", "TUM", pixel_sha256(_image(0)), 36, 40, None),
    ]
    assert list(folder.tiles) == expected
    assert folder.rejects == ()
    assert folder.classes == ("ADI", "TUM")
    assert folder.root == tmp_path


def test_relative_root_becomes_absolute(tmp_path, monkeypatch):
    _write(tmp_path, "tiles/A/a.png")
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    assert read_tile_folder(Path("tiles")).root == tmp_path / "tiles"


def test_suffixes_in_any_case(tmp_path):
    names = ["a.PNG", "b.Jpg", "c.JPEG", "d.tif", "e.TIFF", "f.bmp", "g.WebP"]
    _write(tmp_path, *(f"A/{name}" for name in names))
    assert _paths(read_tile_folder(tmp_path)) == [f"A/{name}" for name in names]


def test_hidden_files_and_litter_do_not_exist(tmp_path):
    _write(tmp_path, "A/a.png", ".cache/b.png", "A/.hidden.png", "A/.thumbs/c.png")
    for litter in (".DS_Store", "A/Thumbs.db", "A/desktop.ini", "A/._a.png", "README.md"):
        (tmp_path / litter).write_bytes(b"litter")
    folder = read_tile_folder(tmp_path)
    assert _paths(folder) == ["A/a.png"]
    assert folder.rejects == ()


def test_one_bad_file_of_each_kind_is_a_reject_and_the_rest_goes_on(tmp_path):
    _write(tmp_path, "A/good.png", "B/good.png", "stray.png")
    (tmp_path / "A/empty.png").touch()
    (tmp_path / "A/text.tif").write_text("no image")
    (tmp_path / "A/notes.txt").write_text("notes")
    whole = (tmp_path / "B/good.png").read_bytes()
    (tmp_path / "B/cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("CMYK", (40, 40)).save(tmp_path / "B/ink.tif")
    Image.new("RGB", (1, 1)).save(tmp_path / "B/pixel.png")
    (tmp_path / "C").mkdir()
    (tmp_path / "D").mkdir()
    (tmp_path / "D/dangling.png").symlink_to(tmp_path / "nowhere.png")
    folder = read_tile_folder(tmp_path)
    assert _paths(folder) == ["A/good.png", "B/good.png"]
    reasons = _reasons(folder)
    assert list(reasons) == sorted(reasons)
    for item, part in {
        "A/empty.png": "0 bytes",
        "A/text.tif": "whatever its name says",
        "A/notes.txt": "no image by its name",
        "B/cut.png": "damaged",
        "B/ink.tif": "CMYK",
        "B/pixel.png": "1 × 1 px",
        "C/": "the class folder holds no image",
        "D/": "all its 1 images were rejected",
        "D/dangling.png": "no such file",
        "stray.png": "beside the class folders",
    }.items():
        assert part in reasons.pop(item)
    assert reasons == {}


def test_same_image_twice_in_a_class_is_one_tile(tmp_path):
    _write(tmp_path, "A/1.png", "A/2.bmp", "A/sub/3.png", seed=5)
    _write(tmp_path, "B/other.png", seed=6)
    folder = read_tile_folder(tmp_path)
    assert _paths(folder) == ["A/1.png", "B/other.png"]
    reason = "it is the same image as A/1.png, which is kept"
    assert _reasons(folder) == {"A/2.bmp": reason, "A/sub/3.png": reason}


def test_same_image_under_two_classes_has_no_label(tmp_path):
    _write(tmp_path, "A/1.png", "A/2.png", "B/3.png", seed=5)
    _write(tmp_path, "B/other.png", seed=6)
    folder = read_tile_folder(tmp_path)
    assert _paths(folder) == ["B/other.png"]
    reasons = _reasons(folder)
    assert set(reasons) == {"A/", "A/1.png", "A/2.png", "B/3.png"}
    assert "under another class (A/2.png, B/3.png)" in reasons["A/1.png"]
    assert "under another class (A/1.png, A/2.png)" in reasons["B/3.png"]
    assert "all its 2 images were rejected" in reasons["A/"]


def test_many_contradicting_copies_are_counted_not_listed(tmp_path):
    _write(tmp_path, *(f"A/{i}.png" for i in range(6)), "B/6.png", seed=5)
    _write(tmp_path, "B/other.png", seed=6)
    reason = _reasons(read_tile_folder(tmp_path))["B/6.png"]
    assert "(A/0.png, A/1.png, A/2.png and 3 more)" in reason


def _table(tmp_path, *rows, header="file,patient"):
    table = tmp_path / "patients.csv"
    table.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return table


def test_patients_by_path_and_by_bare_name(tmp_path):
    _write(tmp_path, "A/1.png", "A/2.png", "B/2.png", "B/3.png")
    rows = ["A/1.png,p1", ".\\A\\2.png, p2 ", "3.png,p1"]
    folder = read_tile_folder(tmp_path, patients=_table(tmp_path, *rows))
    assert {tile.path: tile.patient_id for tile in folder.tiles} == {
        "A/1.png": "p1",
        "A/2.png": "p2",
        "B/2.png": None,
        "B/3.png": "p1",
    }
    assert folder.rejects == ()


def test_patients_with_byte_order_mark_quotes_and_more_columns(tmp_path):
    _write(tmp_path, "A/1.png")
    table = tmp_path / "patients.csv"
    table.write_text('\ufeffsite,file,patient\nx,"A/1.png","Doe, J"\n\n', encoding="utf-8")
    assert read_tile_folder(tmp_path, patients=table).tiles[0].patient_id == "Doe, J"


def test_no_patient_is_invented_from_a_name(tmp_path):
    _write(tmp_path, "ADI/ADI-TCGA-AAICEQFN.tif", "ADI/TCGA-05-4244-01Z.png")
    assert {tile.patient_id for tile in read_tile_folder(tmp_path).tiles} == {None}


def test_row_without_image_is_a_reject_and_unreadable_image_is_not_absent(tmp_path):
    _write(tmp_path, "A/1.png")
    (tmp_path / "A/empty.png").touch()
    table = _table(tmp_path, "A/1.png,p1", "A/gone.png,p2", "A/empty.png,p3")
    folder = read_tile_folder(tmp_path, patients=table)
    reasons = _reasons(folder)
    assert "row 3 of patients.csv names an image that is not under" in reasons["A/gone.png"]
    assert "0 bytes" in reasons["A/empty.png"]
    assert len(reasons) == 2


def test_same_image_of_two_patients_has_none(tmp_path):
    _write(tmp_path, "A/1.png", "A/2.png", seed=5)
    _write(tmp_path, "A/other.png", seed=6)
    table = _table(tmp_path, "1.png,p1", "2.png,p2", "other.png,p1")
    folder = read_tile_folder(tmp_path, patients=table)
    assert _paths(folder) == ["A/other.png"]
    assert "another patient (A/2.png)" in _reasons(folder)["A/1.png"]
    assert "another patient (A/1.png)" in _reasons(folder)["A/2.png"]


def test_a_copys_row_tells_the_patient_of_the_tile_that_is_kept(tmp_path):
    _write(tmp_path, "A/1.png", "A/2.png", seed=5)
    (tile,) = read_tile_folder(tmp_path, patients=_table(tmp_path, "2.png,p2")).tiles
    assert (tile.path, tile.patient_id) == ("A/1.png", "p2")


@pytest.mark.parametrize(
    ("header", "rows", "parts"),
    [
        ("file;patient", ["A/1.png;p1"], ["row 1", "file;patient", "expected file and patient"]),
        ("name,patient", [], ["row 1", "name, patient"]),
        ("", [], ["row 1", "correct the header"]),
        ("file,patient", ["A/1.png,p1", "A/2.png,"], ["row 3", "patient ''"]),
        ("file,patient", [",p1"], ["row 2", "file ''"]),
        ("file,patient", ["A/1.png"], ["row 2", "as many cells as columns"]),
        ("file,patient", ["A/1.png,p1,p2"], ["row 2", "more cells"]),
        ("file,patient", ["A/1.png,p1", "A/2.png,p2", "1.png,p3"], ["row 4", "'p3'", "'p1'"]),
        ("file,patient", ["same.png,p1"], ["row 2", "2 images (A/same.png, B/same.png"]),
        ("file,patient", ['"A/1.png,p1'], ["cannot be read", "UTF-8"]),
    ],
)
def test_malformed_patients_table(tmp_path, header, rows, parts):
    _write(tmp_path, "A/1.png", "A/2.png", "A/same.png", "B/same.png")
    table = _table(tmp_path, *rows, header=header)
    _refused("patients table", str(table), *parts, root=tmp_path, patients=table)


def test_patients_table_absent_or_not_text(tmp_path):
    _write(tmp_path, "A/1.png")
    _refused("patients table", "No such file", root=tmp_path, patients=tmp_path / "absent.csv")
    _refused("patients table", "UTF-8", root=tmp_path, patients=tmp_path / "A/1.png")


def test_root_absent_a_file_or_without_classes(tmp_path):
    _refused("there is no such folder", "check the path", root=tmp_path / "absent")
    (tmp_path / "file").touch()
    _refused("it is no folder", root=tmp_path / "file")
    _write(tmp_path, "stray.png")
    _refused("no class folder", "ROOT/<class>/<image>", root=tmp_path)
    with pytest.raises(SourceError, match="no class folder"):
        listing_sha256(tmp_path)


def test_no_tile_at_all_counts_and_quotes_the_rejects(tmp_path):
    for name in "abcde":
        (tmp_path / "A").mkdir(exist_ok=True)
        (tmp_path / f"A/{name}.png").touch()
    _refused(
        "no usable tile: 1 class folders, 5 images, 5 rejects",
        "A/a.png: ",
        "A/c.png: ",
        root=tmp_path,
    )
    with pytest.raises(SourceError) as caught:
        read_tile_folder(tmp_path)
    assert "A/d.png" not in str(caught.value)


def test_empty_class_folders_only(tmp_path):
    (tmp_path / "A").mkdir()
    _refused("no usable tile: 1 class folders, 0 images, 0 rejects; ", "add tiles", root=tmp_path)


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    _write(tmp_path, "elsewhere/1.png", "root/A/2.png")
    root = tmp_path / "root"
    (root / "B").symlink_to(tmp_path / "elsewhere")
    (root / "A" / "loop").symlink_to(root)
    folder = read_tile_folder(root)
    assert _paths(folder) == ["A/2.png", "B/1.png"]
    assert "leads back" in _reasons(folder)["A/loop/"]


def test_unlistable_folder(tmp_path):
    _write(tmp_path, "A/1.png", "B/2.png")
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    (tmp_path / "B").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may list anything, so be nobody for a moment
        folder = read_tile_folder(tmp_path)
    finally:
        os.seteuid(user)
        (tmp_path / "B").chmod(0o755)
    assert _paths(folder) == ["A/1.png"]
    assert any("cannot be listed" in reject.reason for reject in folder.rejects)


def test_name_that_is_no_text(tmp_path):
    _write(tmp_path, "A/1.png")
    shutil.copy(tmp_path / "A/1.png", os.fsencode(tmp_path / "A") + b"/bad\xff.png")
    folder = read_tile_folder(tmp_path)
    assert _reasons(folder) == {"A/bad\\xff.png": "its name is not valid UTF-8; rename it"}
    folder.rejects[0].item.encode()
    assert folder.listing_sha256 == listing_sha256(tmp_path)


def test_progress_counts_every_image_in_the_calling_thread(tmp_path):
    import threading

    _write(tmp_path, *(f"A/{i}.png" for i in range(5)))
    (tmp_path / "A/bad.png").touch()
    seen = []
    read_tile_folder(
        tmp_path, on_progress=lambda *counts: seen.append((*counts, threading.current_thread()))
    )
    assert seen == [(n, 6, threading.current_thread()) for n in range(1, 7)]


def test_batches_and_threads_change_nothing(tmp_path, monkeypatch):
    _write(tmp_path, *(f"{'ABC'[i % 3]}/{i}.png" for i in range(20)))
    _write(tmp_path, "A/copy.png", seed=4)
    (tmp_path / "A/bad.png").touch()
    whole = read_tile_folder(tmp_path)
    monkeypatch.setattr("featurestore.sources.tile_folders._BATCH", 3)
    assert read_tile_folder(tmp_path, n_threads=5) == whole
    assert len(whole.tiles) == 19


def test_digest_is_content_and_not_place(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    _write(one, "A/1.png", "B/2.png")
    _write(other, "A/x/renamed.bmp", "B/again.tif")
    first, second = read_tile_folder(one), read_tile_folder(other)
    assert first.digest == second.digest
    assert first.listing_sha256 != second.listing_sha256
    table = _table(one, "1.png,p1")
    assert read_tile_folder(one, patients=table).digest != first.digest
    (other / "B/again.tif").rename(other / "A/again.tif")
    assert read_tile_folder(other).digest != first.digest


def test_listing_tells_every_change_that_could_matter(tmp_path):
    root = tmp_path / "root"
    _write(root, "A/1.png", "B/2.png")
    table = _table(tmp_path, "1.png,p1")
    seen = [listing_sha256(root), listing_sha256(root, table)]
    assert listing_sha256(root) == seen[0]
    assert read_tile_folder(root, patients=table).listing_sha256 == seen[1]
    os.utime(root / "A/1.png", ns=(1, 1))
    seen.append(listing_sha256(root))
    (root / "A/1.png").rename(root / "A/3.png")
    seen.append(listing_sha256(root))
    (root / "C").mkdir()
    seen.append(listing_sha256(root))
    table.write_text("file,patient\n")
    seen.append(listing_sha256(root, table))
    assert len(set(seen)) == len(seen)
    before = listing_sha256(root)
    (root / "README").touch()
    (root / "A/.DS_Store").touch()
    assert listing_sha256(root) == before


@given(
    contents=st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(0, 4), st.sampled_from([None, "p", "q"])),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None)
def test_every_image_is_a_tile_or_a_reject_and_none_contradicts(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("folder")
    rows = []
    for number, (label, seed, patient) in enumerate(contents):
        _write(root, f"{label}/{number}.png", seed=seed)
        if patient:
            rows.append(f"{label}/{number}.png,{patient}")
    table = _table(root, *rows)
    truth: dict[int, set] = {}
    for label, seed, patient in contents:
        labels, patients = truth.setdefault(seed, (set(), set()))
        labels.add(label)
        patients |= {patient} - {None}
    sound = {
        seed for seed, (labels, patients) in truth.items() if len(labels) == 1 >= len(patients)
    }
    if not sound:
        _refused(f"{len(contents)} rejects", root=root, patients=table)
        return
    folder = read_tile_folder(root, patients=table)
    assert {tile.sha256 for tile in folder.tiles} == {pixel_sha256(_image(seed)) for seed in sound}
    assert len(folder.tiles) == len(sound)
    for tile in folder.tiles:
        labels, patients = truth[contents[int(tile.path[2:-4])][1]]
        assert {tile.label} == labels
        assert {tile.patient_id} - {None} == patients
    images = {f"{label}/{number}.png" for number, (label, _, _) in enumerate(contents)}
    left_out = {reject.item for reject in folder.rejects if not reject.item.endswith("/")}
    assert left_out | set(_paths(folder)) == images
    assert not left_out & set(_paths(folder))


@pytest.mark.parametrize(
    ("name", "n_tiles", "classes"),
    [
        ("nct_crc_he_7k_sample", 162, "ADI BACK DEB LYM MUC MUS NORM STR TUM"),
        ("crc5/train", 2000, "AC H S T V"),
        ("crc5/test", 800, "AC H S T V"),
    ],
)
def test_real_folders_read_without_a_reject(shared_data, name, n_tiles, classes):
    folder = read_tile_folder(shared_data / name)
    assert folder.rejects == ()
    assert len(folder.tiles) == n_tiles
    assert folder.classes == tuple(classes.split())
    assert {(tile.width_px, tile.height_px) for tile in folder.tiles} == {(224, 224)}
    assert {tile.patient_id for tile in folder.tiles} == {None}
