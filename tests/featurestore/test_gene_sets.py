"""Gene lists and sets in the formats that their authors publish, and symbols nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.errors import SourceError
from featurestore.sources.gene_sets import LUNG_DRIVERS, known_genes, read_genes


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "layout", "sets"),
    [
        ("# mine\nTP53\n\nEGFR  # a remark\nTP53\n", "list", {"x": ("TP53", "EGFR")}),
        ("Gene symbol\tB\tT\nA\t1\t2\nC\t3\t1\n", "signature matrix", {"B": ("C",), "T": ("A",)}),
        ("B,T\nA,C\nD,\n", "column a set", {"B": ("A", "D"), "T": ("C",)}),
        ('"HUGO symbols"\t"Cell population"\n"A"\t"B"\n"C"\t"T"\n', "gene and set",
         {"B": ("A",), "T": ("C",)}),
        ("B\thttp://a\tA\tD\nT\thttp://b\tC\n", "GMT", {"B": ("A", "D"), "T": ("C",)}),
    ],
)  # fmt: skip
def test_every_layout(tmp_path: Path, text: str, layout: str, sets: dict) -> None:
    genes = read_genes(write(tmp_path / "x", text))
    assert (genes.layout, dict(genes.sets)) == (layout, sets)
    assert set(genes.symbols) == {gene for part in sets.values() for gene in part}


def test_sets_are_chosen_by_name_and_an_unknown_one_lists_those_there(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "B,T\nA,C\nD,\n")
    assert read_genes(path, ["T"]).symbols == ("C",)
    with pytest.raises(SourceError, match="no set NK; it has B, T"):
        read_genes(path, ["NK"])
    with pytest.raises(SourceError, match="holds no gene"):
        read_genes(write(path, "?\n"))


def test_unknown_symbols_are_listed_and_the_rest_goes_on() -> None:
    genes, rejects = known_genes(["TP53", "hla-a", "NOPE", "TP53"], {"TP53", "HLA-A"}, "the table")
    assert genes == ("TP53",)
    assert [(reject.item, reject.reason.partition("; ")[2]) for reject in rejects] == [
        ("hla-a", "it has HLA-A"),
        ("NOPE", "it may have another name there"),
    ]


def test_the_drivers_hold_all_five_that_the_paper_names() -> None:
    assert len(set(LUNG_DRIVERS)) == 10
    assert {"STK11", "TP53", "LRP1B", "NF1", "FAT1"} <= set(LUNG_DRIVERS)


@pytest.mark.parametrize(
    ("name", "layout", "n_sets", "n_genes"),
    [
        ("LM22.txt", "signature matrix", 22, 547),
        ("MCPcounter_genes.txt", "gene and set", 10, 111),
        ("SurvPath_hallmarks_signatures.csv", "column a set", 50, 4_241),
        ("quantiseq_TIL10_signature.txt", "signature matrix", 10, 170),
    ],
)
def test_the_published_files(
    shared_data: Path, name: str, layout: str, n_sets: int, n_genes: int
) -> None:
    genes = read_genes(shared_data / "tcga_luad/genesets" / name)
    assert (genes.layout, len(genes.sets), len(genes.symbols)) == (layout, n_sets, n_genes)
