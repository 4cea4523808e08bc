"""Damaged tables and study files: expression, mutations, clinical data, gene sets, studies."""

from __future__ import annotations

from pathlib import Path

import pytest

PATIENTS = ["TCGA-05-4244", "TCGA-05-4249-01A", "TCGA-38-6178-01A", "TCGA-05-4249-02A",
            "TCGA-49-4488-11A"]  # fmt: skip
SYMBOLS = ["TP53", "KRAS", "EGFR", "STK11", "CD8A", "ACTB", "ENSG00000141510.16"]


def rows(lines: list[list[str]], separator: str = "\t") -> str:
    return "\n".join(separator.join(line) for line in lines) + "\n"


def value(row: int, column: int) -> str:
    return "NA" if (row, column) == (2, 3) else f"{(row * 7 + column * 3) % 11 + 0.25}"


@pytest.fixture
def matrices(tmp_path: Path) -> list[Path]:
    """Xena's layout, a plain matrix, and one with more columns about genes."""
    body = [[g, *(value(i, j) for j in range(5))] for i, g in enumerate(SYMBOLS)]
    described = [[f"ENSG{i:011}", line[0], "protein_coding", *line[1:]] for i, line in
                 enumerate(body)]  # fmt: skip
    texts = {
        "xena.tsv": rows([["sample", *PATIENTS], *body]),
        "matrix.csv": rows([["gene", *PATIENTS], *body], ","),
        "quoted.csv": rows([['"gene"', *(f'"{p}"' for p in PATIENTS)], *body], ","),
        "described.tsv": rows([["gene_id", "gene_name", "gene_type", *PATIENTS], *described]),
        "own.tsv": rows([["gene", "p1", "p2", "p3", "p4", "p5"], *body]),
    }
    return [written(tmp_path / "valid" / name, text) for name, text in texts.items()]


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


def test_matrices_of_expression(fuzz, text_kinds, matrices, tmp_path: Path) -> None:
    ended = fuzz("expression", matrices, tmp_path / "table.txt", kinds=text_kinds)
    assert ended["accepted"] + ended["rejected"] > 100, ended
    assert ended["refused"] > 100, ended


STAR = ("gene_id", "gene_name", "gene_type", "unstranded", "stranded_first", "stranded_second",
        "tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded")  # fmt: skip
SHEET = [
    ["File ID", "File Name", "Case ID", "Sample ID"],
    ["1", "one.tsv", "TCGA-05-4244", "TCGA-05-4244-01A"],
    ["2", "two.tsv", "TCGA-05-4249", "TCGA-05-4249-01A"],
]


def star(seed: int) -> str:
    counts = [["N_unmapped", "", "", "12", "3", "4", "", "", ""]]
    genes = [
        [f"ENSG{i:011}.{i}", symbol, "protein_coding", f"{i + seed}", "1", "2",
         *(f"{(i * seed) % 5 + k}.5" for k in range(3))]
        for i, symbol in enumerate(SYMBOLS)
    ]  # fmt: skip
    return "# gene-model: GENCODE v36\n" + rows([[*STAR], *counts, *genes])


@pytest.fixture
def gdc(tmp_path: Path) -> Path:
    """A download of GDC: two samples and the sheet that names them."""
    written(tmp_path / "gdc" / "two.tsv", star(2))
    written(tmp_path / "gdc" / "one.tsv", star(3))
    return written(tmp_path / "gdc" / "sheet.tsv", rows(SHEET)).parent


def test_samples_of_gdc(fuzz, text_kinds, gdc: Path, tmp_path: Path) -> None:
    headless = rows([[f"ENSG{i:011}.{i}", value(i, 1)] for i in range(9)])
    bases = [written(tmp_path / "valid" / "star.tsv", star(3)),
             written(tmp_path / "valid" / "headless.txt", headless)]  # fmt: skip
    ended = fuzz("gdc", bases, gdc / "one.tsv", kinds=text_kinds, read=gdc)
    assert ended["refused"] + ended["rejected"] > 50, ended
    assert ended["accepted"] > 20, ended


def test_the_sheet_of_gdc(fuzz, text_kinds, gdc: Path, tmp_path: Path) -> None:
    bases = [written(tmp_path / "valid" / "sheet.tsv", rows(SHEET))]
    fuzz("gdc", bases, gdc / "sheet.tsv", kinds=text_kinds, read=gdc)


MAF = ("Hugo_Symbol", "Entrez_Gene_Id", "Chromosome", "Start_Position", "End_Position",
       "Variant_Classification", "Reference_Allele", "Tumor_Seq_Allele2", "Tumor_Sample_Barcode",
       "t_depth")  # fmt: skip


def variants(samples: list[str]) -> list[list[str]]:
    kinds = ("Missense_Mutation", "Silent", "Frame_Shift_Del")
    return [
        [SYMBOLS[i % 6], f"{i}", f"chr{i + 1}", f"{i * 100}", f"{i * 100}", kinds[i % 3], "A", "T",
         samples[i % len(samples)], f"{30 + i}"]
        for i in range(12)
    ]  # fmt: skip


@pytest.fixture
def mutation_tables(tmp_path: Path) -> list[Path]:
    """A MAF with comments, cBioPortal's list and matrix, and a matrix of 0 and 1."""
    maf = [[*MAF], *variants([f"{p[:12]}-01A-01D-A1-08" for p in PATIENTS])]
    samples = [f"{patient[:12]}-01" for patient in PATIENTS[:4]]
    listed = [[samples[i % 4], SYMBOLS[i], "Missense"] for i in range(6)]
    cbioportal = [["Sample ID", "Gene", "Mutation Type"], *listed]
    wide = [["STUDY_ID", "SAMPLE_ID", *SYMBOLS[:4]]]
    wide += [["luad", sample, "WT", "R175H", "NS", "WT"] for sample in samples]
    binary = [["gene", *PATIENTS], *([g, "0", "1", "NA", "0", "1"] for g in SYMBOLS)]
    texts = {
        "a.maf": "#version 2.4\n" + rows(maf),
        "cbioportal.tsv": rows(cbioportal),
        "wide.tsv": rows(wide),
        "binary.csv": rows(binary, ","),
    }
    return [written(tmp_path / "valid" / name, text) for name, text in texts.items()]


def test_tables_of_mutations(fuzz, text_kinds, mutation_tables, tmp_path: Path) -> None:
    ended = fuzz("maf", mutation_tables, tmp_path / "table.txt", kinds=text_kinds)
    assert ended["accepted"] + ended["rejected"] > 100, ended
    assert ended["refused"] > 100, ended


def test_a_maf_among_others(fuzz, text_kinds, mutation_tables, tmp_path: Path) -> None:
    """The other file's variants are there, whatever the damaged one holds."""
    folder = tmp_path / "mafs"
    good = [["TCGA-99-0001-01A-01D-A1-08"], ["TCGA-99-0002-01A-01D-A1-08"]]
    text = rows([[*MAF], *variants(good[0]), *variants(good[1])])
    written(folder / "good.maf", text)

    def still_there(answer: dict) -> None:
        assert {"TCGA-99-0001", "TCGA-99-0002"} <= set(answer.get("texts", ()))

    ended = fuzz(
        "maf", mutation_tables[:2], folder / "bad.maf", kinds=text_kinds, read=folder,
        also=still_there,
    )  # fmt: skip
    assert not ended["refused"], ended


def test_clinical_tables(fuzz, text_kinds, tmp_path: Path) -> None:
    header = ["Study ID", "Patient ID", "Sample ID", "Diagnosis Age", "Sex", "STAGE", "Smoker"]
    body = [["luad", p[:12], f"{p[:12]}-01", f"{50 + i}", "Male", "Stage IIA", "NA"]
            for i, p in enumerate(PATIENTS)]  # fmt: skip
    bases = [
        written(tmp_path / "valid" / "samples.tsv", rows([header, *body])),
        written(tmp_path / "valid" / "patients.csv", rows([header[1:2] + header[3:],
                *(line[1:2] + line[3:] for line in body)], ",")),
    ]  # fmt: skip
    ended = fuzz("clinical", bases, tmp_path / "table.txt", kinds=text_kinds)
    assert ended["accepted"] + ended["rejected"] > 100, ended
    assert ended["refused"] > 100, ended


def test_gene_sets(fuzz, text_kinds, tmp_path: Path) -> None:
    texts = {
        "list.txt": "\n".join(SYMBOLS) + "\n",
        "signature.txt": rows([["Gene", "B cells", "T cells"],
                               *([g, value(i, 0), value(i, 1)] for i, g in enumerate(SYMBOLS))]),
        "columns.csv": rows([["HYPOXIA", "EMT"], *zip(SYMBOLS, SYMBOLS[::-1], strict=True)], ","),
        "pairs.tsv": rows([["HUGO symbols", "Cell population"], *([g, "T"] for g in SYMBOLS)]),
        "sets.gmt": rows([["A", "http://x", *SYMBOLS], ["B", "http://y", *SYMBOLS[:3]]]),
    }  # fmt: skip
    bases = [written(tmp_path / "valid" / name, text) for name, text in texts.items()]
    ended = fuzz("genes", bases, tmp_path / "genes.txt", kinds=text_kinds)
    assert ended["accepted"] > 100, ended
    assert ended["refused"] > 100, ended


STUDY = """
name = "luad_study"
seed = 7
[finetune]
tiles = "train"
epochs = [1, 3]
unfreeze = "block12"
[luad]
slides = "slides/*.svs"
mpp = 0.5
mpp_override = { "a.svs" = 0.25 }
expression = "fpkm.csv.gz"
unit = "FPKM"
mutations = "cohort.maf.gz"
genes = ["TP53", "CD8A"]
folds = 5
repeats = 2
group = "site"
[[encoders]]
name = "imgnet-2048"
input_px = 72
[[encoders]]
name = "ftx-2048"
finetuned_from = "imgnet-2048"
"""


def test_study_files(fuzz, text_kinds, tmp_path: Path) -> None:
    for name in ("train", "slides"):
        (tmp_path / name).mkdir()
    demo = Path(__file__).parents[3] / "studies" / "demo.toml"
    base = written(tmp_path / "valid" / "study.toml", STUDY)
    kinds = [kind for kind in text_kinds if kind not in ("column", "packed")]
    ended = fuzz("study", [base, demo], tmp_path / "study.toml", kinds=kinds)
    assert ended["accepted"] > 20, ended
    assert ended["refused"] > 300, ended
