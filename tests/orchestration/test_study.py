"""The study file: what it says, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.errors import StudyError
from orchestration.study import read_studies, read_study
from orchestration.study_sections import Synthetic

PLAIN = """
name = "plain"
seed = 3
[tissue]
tiles = "tiles"
[[encoders]]
name = "imgnet-2048"
"""


def write(folder: Path, text: str, name: str = "study.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, PLAIN))
    assert study.tissue is not None
    assert study.tissue.tiles == tmp_path / "tiles"
    assert (study.tissue.folds, study.tissue.repeats) == (5, 50)


def test_colour_baselines_are_always_there(tmp_path: Path) -> None:
    names = [entry.name for entry in read_study(write(tmp_path, PLAIN)).encoders]
    assert names == ["imgnet-2048", "mean-rgb", "colour-histogram"]


@pytest.mark.parametrize("name", ["demo", "li2022"])
def test_the_studies_that_we_ship_can_be_read(name: str) -> None:
    path = Path(__file__).parents[2] / "studies" / f"{name}.toml"
    study = read_study(path)
    assert study.name == name
    assert [entry.name for entry in study.encoders][:2] == ["imgnet-2048", "ftx-2048"]


def test_the_demo_draws_different_tissue_to_train_and_to_test_on() -> None:
    study = read_study(Path(__file__).parents[2] / "studies" / "demo.toml")
    assert study.finetune is not None
    assert study.tissue is not None
    assert isinstance(study.finetune.tiles, Synthetic)
    assert isinstance(study.tissue.tiles, Synthetic)
    assert study.finetune.tiles.seed != study.tissue.tiles.seed


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("tiles =", "repeat = 5\ntiles =", r"unknown key \[tissue\].repeat; did you mean repeats?"),
        ("seed = 3", "sead = 3", "unknown key sead; did you mean seed?"),
        ('tiles = "tiles"', "tiles = { synthetik = 3 }", "synthetik; did you mean synthetic?"),
        ('name = "imgnet-2048"', 'name = "x"\nmppp = 1', r"unknown key \[\[encoders\]\] x.mppp"),
        ("tiles =", "folds = 1\ntiles =", r"\[tissue\].folds: .*greater than or equal to 2, got 1"),
        ("tiles =", "mpp = 352\ntiles =", r"\[tissue\].mpp: .*less than or equal to 10"),
        ('"plain"', '"Not Plain"', "name: .*pattern"),
        ('tiles = "tiles"', "", r"missing key \[tissue\].tiles"),
        ('name = "imgnet-2048"', 'name = "mean-rgb"', "taken twice or reserved: mean-rgb"),
        (
            'name = "imgnet-2048"',
            'name = "a"\nfinetuned_from = "b"',
            "'a' is fine-tuned from 'b', which is not an encoder",
        ),
        (
            'name = "imgnet-2048"',
            'name = "a"\n[[encoders]]\nname = "b"\nfinetuned_from = "a"',
            r"'b' is fine-tuned, but \[finetune\] is missing",
        ),
        (
            'name = "imgnet-2048"',
            'name = "a"\n[[encoders]]\nname = "b"\nfinetuned_from = "a"\ninput_px = 99',
            "takes input_px from it",
        ),
        ('name = "imgnet-2048"', 'name = "a"\nweights_sha256 = "abc"', "weights_sha256: .*pattern"),
        ("seed = 3", "seed = ", "is not TOML"),
        ('[[encoders]]\nname = "imgnet-2048"', "", "missing key encoders"),
        ("seed = 3", "seed = 3\nencoders = []", "is not TOML"),
        ("seed = 3", 'seed = 3\npath = "x"', "unknown key path"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in PLAIN
    path = write(tmp_path, PLAIN.replace(before, after))
    with pytest.raises(StudyError, match=message) as caught:
        read_study(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    text = PLAIN.replace("tiles =", "foldz = 5\nrepeat = 5\ntiles =")
    with pytest.raises(StudyError, match="did you mean folds.*did you mean repeats"):
        read_study(write(tmp_path, text))


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="absent.toml: cannot be read"):
        read_study(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="binary.toml: cannot be read"):
        read_study(tmp_path / "binary.toml")


def test_two_studies_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path, PLAIN, "a.toml"), write(tmp_path, PLAIN, "b.toml")
    assert len(read_studies([one, one])) == 1
    with pytest.raises(StudyError, match="'plain' is also that of .*a.toml"):
        read_studies([one, two])
