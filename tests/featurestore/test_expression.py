"""Reading expression: every layout, units that are contradicted, samples, genes, bad tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import SourceError
from featurestore.sources.expression import expression_listing, read_expression
from featurestore.sources.expression_units import parse_unit

A, B, C = "TCGA-05-0001", "TCGA-05-0002", "TCGA-49-0003"


def write(path: Path, text: str, *, zipped: bool = False) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return path


def items(table: object) -> dict[str, str]:
    return {reject.item: reject.reason for reject in table.rejects}  # type: ignore[attr-defined]


def whole(rng: np.random.Generator, n_genes: int = 15_000) -> pd.DataFrame:
    values = rng.lognormal(1, 2, (n_genes, 3))
    genes = [f"GENE{number}" for number in range(n_genes)]
    return pd.DataFrame(values, index=pd.Index(genes, name="gene_symbol"), columns=[A, B, C])


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_matrix_becomes_log2_by_gene_and_patient(
    tmp_path: Path, separator: str, zipped: bool
) -> None:
    rows = [[""], ["gene_symbol", B, A], ["TP53", "3", "0"], ["EGFR", "NA", "7"]]
    text = "\n".join(separator.join(row) for row in rows) + "\n"
    # The name says nothing: what counts is inside.
    table = read_expression(write(tmp_path / "data.bin", text, zipped=zipped), unit="fpkm")
    assert (table.layout, table.unit) == ("matrix", "FPKM")
    assert table.patients == (A, B)
    assert table.symbols == ("EGFR", "TP53")
    np.testing.assert_array_equal(table.values, np.float32([[3, np.nan], [0, 2]]))
    assert table.values.dtype == np.float32
    assert table.rejects == ()


def test_xena_is_told_by_its_corner_and_is_log2_already(tmp_path: Path) -> None:
    text = f"sample\t{A}-01\t{B}-11\t{B}-01\t{C}-02\nTP53\t1.5\t9\t2.5\t3\nEGFR\t0\t9\t4\t5\n"
    table = read_expression(write(tmp_path / "x", text))
    assert (table.layout, table.unit, table.patients) == ("Xena", "log2(x+1)", (A, B, C))
    np.testing.assert_array_equal(table.values, np.float32([[0, 4, 5], [1.5, 2.5, 3]]))
    assert list(items(table)) == [f"{B}-11"]
    named = read_expression(write(tmp_path / "x", text), unit="log2(TPM + 1)")
    assert named.unit == "log2(TPM+1)"
    assert named.digest != table.digest


def test_ensembl_versions_entrez_numbers_and_r_names_are_stripped(tmp_path: Path) -> None:
    rows = ["TCGA.05.0001.01A\tTCGA.05.0002.01A", "ENSG00000141510.16\t1\t2", "TP53|7157\t3\t4"]
    text = "\n".join([*rows, "?|10\t5\t6\n"])
    table = read_expression(write(tmp_path / "x", text), unit="x")
    assert table.symbols == ("ENSG00000141510", "TP53")
    assert table.patients == (A, B)
    assert "1 rows name no gene" in items(table)["x"]


def test_a_symbol_column_beside_identifiers_counts(tmp_path: Path) -> None:
    text = f"gene_id\tgene_name\tgene_type\t{A}\nENSG00000141510.16\tTP53\tprotein_coding\t3\n"
    table = read_expression(write(tmp_path / "x", text), unit="x")
    assert (table.symbols, table.patients) == (("TP53",), (A,))


def test_of_a_gene_named_twice_the_row_with_the_highest_mean_stays(tmp_path: Path) -> None:
    text = f"gene,{A},{B}\nTP53,1,1\nTP53,3,1\nTP53,0,0\nKRAS,7,7\nAAA,,\n1-Mar,2,2\n"
    table = read_expression(write(tmp_path / "x", text), unit="x")
    assert table.symbols == ("KRAS", "TP53")
    np.testing.assert_array_equal(table.values[1], np.float32([2, 1]))
    reasons = " | ".join(reject.reason for reject in table.rejects)
    assert "2 more rows of 1 genes that are there already (TP53)" in reasons
    assert "1 genes have no value in any patient (AAA)" in reasons
    assert "1 genes have become dates in a spreadsheet (1-Mar)" in reasons


def test_malformed_barcodes_are_named_and_empty_patients_too(tmp_path: Path) -> None:
    text = f"gene,{A},TCGA-05-2,{B},{C}-11A\nTP53,1,1,,1\nKRAS,1,1,NA,1\n"
    table = read_expression(write(tmp_path / "x", text), unit="x")
    assert table.patients == (A,)
    reasons = items(table)
    assert set(reasons) == {"TCGA-05-2", B, f"{C}-11A"}
    assert "no value of any gene" in reasons[B]


def test_a_sample_that_stands_there_twice_must_agree(tmp_path: Path) -> None:
    text = f"gene,{A},{A},{B},{B}\nTP53,1,1,1,2\n"
    table = read_expression(write(tmp_path / "x", text), unit="x")
    assert table.patients == (A,)
    assert "2 times with different values" in items(table)[B]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"patient,TP53,EGFR\n{A},1,2\n{B},3,4\n", "transposed.*expected genes in rows"),
        ("id,TP53,EGFR\nP1,1,2\n", "transposed"),
        (f"gene,{A}\nTP53,high\n", f"gene TP53, column {A} holds 'high'"),
        (f"gene,{A}-11A\nTP53,1\n", "no column is a tumour sample"),
        (f"gene,{A}\nTP53,NA\n", "no value is left"),
        ("# nothing\n", "holds no table"),
        (f"gene,{A},{A}\nTP53,1,2\n", "no patient is left"),
        (f"gene,{A}\nTP53,1\nKRAS,1,2\n", "line 3 has 3 cells, the header has 2"),
        (f"gene,{A},{B}\nTP53,1,2\nKRAS,1\n", "line 3 has 2 cells, the header has 3"),
        (f"gene,{A}\nTP53,inf\n", "infinite"),
        (f"gene,{A}\n?,1\n", "no gene is left"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_expression(write(tmp_path / "x", text), unit="x")


def test_what_is_no_text_or_cut_off_or_absent_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        read_expression(tmp_path / "absent", unit="TPM")
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(SourceError, match="zip or Excel"):
        read_expression(tmp_path / "x.xlsx", unit="TPM")
    table = "\n".join([f"gene,{A}"] + [f"G{n},{n}" for n in range(20_000)])
    (tmp_path / "x.gz").write_bytes(gzip.compress(table.encode())[:-2_000])
    with pytest.raises(SourceError, match="cannot be read .*download or export it again"):
        read_expression(tmp_path / "x.gz", unit="x")


@pytest.mark.parametrize(
    ("unit", "change", "evidence"),
    [
        ("log2(FPKM+1)", lambda x: x, "largest value is .*these are not logarithms"),
        ("log2(FPKM+1)", lambda x: np.log2(x + 0.001), "negative, the lowest"),
        ("FPKM", np.log2, "negative, the lowest"),
        ("FPKM", lambda x: np.log2(x + 1), "these look like log2 values"),
        ("TPM", lambda x: x, "may be FPKM"),
        ("TPM", lambda x: x / x.sum() * 2e6, "sum to 2e.06"),
        ("FPKM", lambda x: x / x.sum() * 1e6, "these are TPM"),
        ("FPKM", lambda x: x.round() * 100, "look like counts"),
        ("count", lambda x: x, "fractions"),
    ],
)
def test_values_that_contradict_their_unit_are_refused_with_the_evidence(
    tmp_path: Path, unit: str, change: object, evidence: str
) -> None:
    table = whole(np.random.default_rng(0))
    change(table).to_csv(tmp_path / "x.csv")  # type: ignore[operator]
    with pytest.raises(SourceError, match=f"declared as {unit[:3]}.*{evidence}"):
        read_expression(tmp_path / "x.csv", unit=unit)


def test_tpm_is_known_by_its_sums_and_other_units_must_be_declared(tmp_path: Path) -> None:
    table = whole(np.random.default_rng(0))
    (table / table.sum() * 1e6).to_csv(tmp_path / "x.csv")
    assert read_expression(tmp_path / "x.csv").unit == "TPM"
    table.to_csv(tmp_path / "x.csv")
    with pytest.raises(SourceError, match="does not say what unit.*declare it"):
        read_expression(tmp_path / "x.csv")
    with pytest.raises(SourceError, match="unit of expression 'reads' is not known"):
        parse_unit("reads")


def test_the_listing_changes_with_file_sheet_and_unit(tmp_path: Path) -> None:
    path = write(tmp_path / "x", f"gene,{A}\nTP53,1\n")
    first = expression_listing(path, unit="TPM")
    assert first == read_expression(path, unit="TPM").listing_sha256
    assert first != expression_listing(path, unit="FPKM")
    write(path, f"gene,{A}\nTP53,11\n")
    assert first != expression_listing(path, unit="TPM")


STAR = (
    "# gene-model: GENCODE v36\n"
    "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\t"
    "tpm_unstranded\tfpkm_unstranded\tfpkm_uq_unstranded\n"
    "N_unmapped\t\t\t5\t5\t5\t\t\t\n"
    "ENSG00000141510.18\tTP53\tprotein_coding\t{n}\t1\t1\t{tpm}\t1.5\t2.5\n"
    "ENSG00000146648.20\tEGFR\tprotein_coding\t4\t1\t1\t7\t0.5\t0.75\n"
    "ENSG00000999999.1\t\tnovel\t4\t1\t1\t0\t0\t0\n"
)
SHEET = "File ID\tFile Name\tCase ID\tSample ID\tSample Type\n"


def gdc(root: Path) -> Path:
    root.mkdir()
    sheet = SHEET
    for name, sample, tpm in [
        ("a.tsv", f"{A}-01A", 3),
        ("b.tsv", f"{B}-01A", 1),
        ("n.tsv", f"{A}-11A", 9),
    ]:
        folder = root / f"uuid-{name}"
        (folder / "logs").mkdir(parents=True)
        write(folder / "logs" / "x.parcel", "log")
        write(folder / name, STAR.format(n=2, tpm=tpm))
        sheet += f"uuid\t{name}\t{sample[:12]}\t{sample}\tx\n"
    sheet += f"uuid\tgone.tsv\t{C}\t{C}-01A\tx\n"
    write(root / "MANIFEST.txt", "id\tfilename\n")
    write(root / "stray.tsv", STAR)
    write(root / "gdc_sample_sheet.tsv", sheet)
    return root


@pytest.mark.parametrize(("unit", "tp53"), [(None, [2, 1]), ("count", [np.log2(3)] * 2)])
def test_gdc_star_files_with_their_sample_sheet(
    tmp_path: Path, unit: str | None, tp53: list
) -> None:
    table = read_expression(gdc(tmp_path / "gdc"), unit=unit)
    assert (table.layout, table.unit) == ("GDC STAR", unit or "TPM")
    assert (table.patients, table.symbols) == ((A, B), ("EGFR", "ENSG00000999999", "TP53"))
    np.testing.assert_allclose(table.values[2], tp53, rtol=1e-6)
    reasons = items(table)
    assert set(reasons) == {f"{A}-11A", f"{C}-01A", "stray.tsv"}
    assert "its file is not in gdc" in reasons[f"{C}-01A"]


def test_gdc_files_need_a_sheet_and_must_not_contradict_each_other(tmp_path: Path) -> None:
    root = gdc(tmp_path / "gdc")
    (root / "other").mkdir()
    write(root / "other" / "a.tsv", STAR.format(n=2, tpm=4))
    table = read_expression(root)
    assert table.patients == (B,) or table.patients == (A, B)
    assert "2 different files are of it" in items(table)[f"{A}-01A"]
    assert A not in table.patients
    (root / "gdc_sample_sheet.tsv").unlink()
    with pytest.raises(SourceError, match="no sample sheet.*put the sample sheet"):
        read_expression(root)


def test_a_damaged_gdc_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    root = gdc(tmp_path / "gdc")
    write(root / "uuid-a.tsv" / "a.tsv", "<html>not found</html>")
    table = read_expression(root)
    assert table.patients == (B,)
    assert "no expression file of GDC" in items(table)[f"{A}-01A"]


def test_headless_files_of_integers_must_declare_their_unit(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "ENSG00000141510.16\t5\nENSG00000146648.9\t6\n__no_feature\t7\n")
    write(tmp_path / "sheet.tsv", f"{SHEET}u\ta.txt.gz\t{A}\t{A}-01A\tx\n")
    with pytest.raises(SourceError, match="do not say their unit .whole numbers"):
        read_expression(tmp_path)
    table = read_expression(tmp_path, unit="count")
    assert table.symbols == ("ENSG00000141510", "ENSG00000146648")
    assert table.layout == "GDC headless"


def test_the_real_matrix_and_the_raw_files_of_its_patients_agree(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "tcga_luad"
    matrix = read_expression(folder / "expression/fpkm_463cases_19578genes.csv.gz", unit="FPKM")
    assert matrix.values.shape == (19_578, 463)
    assert matrix.rejects == ()
    # Found by their values: the files do not name their patients.
    patient_of = {
        "022cbd07-3e20-4144-b2ab-8c76adffae73": "TCGA-49-6745",
        "186b83bd-ec3f-42b4-ba91-d86c9618d5e3": "TCGA-97-A4M2",
        "cf792f7f-a3ee-4544-b029-8c4e4da4f973": "TCGA-05-5420",
        "85ac083c-dbb9-4541-8b75-d73ab216f54c": "TCGA-00-0000",
    }
    rows = "".join(f"u\t{f}.FPKM.txt.gz\t{p}\t{p}-01A\tx\n" for f, p in patient_of.items())
    sheet = write(tmp_path / "sheet.tsv", SHEET + rows)
    raw = read_expression(folder / "raw_fpkm", sample_sheet=sheet)
    assert (raw.layout, raw.unit, len(raw.patients)) == ("GDC headless", "FPKM", 4)
    assert len(raw.symbols) > 60_000
    genes = {"EGFR": "ENSG00000146648", "TP53": "ENSG00000141510", "CD8A": "ENSG00000153563"}
    for symbol, ensembl in genes.items():
        for patient in ("TCGA-49-6745", "TCGA-97-A4M2", "TCGA-05-5420"):
            here = raw.values[raw.symbols.index(ensembl), raw.patients.index(patient)]
            there = matrix.values[matrix.symbols.index(symbol), matrix.patients.index(patient)]
            assert here == pytest.approx(there, abs=1e-4)
