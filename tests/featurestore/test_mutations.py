"""Reading mutations: every layout, who was sequenced, what counts once, bad tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from featurestore.errors import SourceError
from featurestore.sources.gene_sets import LUNG_DRIVERS
from featurestore.sources.mutations import MutationTable, read_mutations

A, B, C = "TCGA-05-0001", "TCGA-05-0002", "TCGA-49-0003"
HEADER = (
    "Hugo_Symbol\tChromosome\tStart_Position\tEnd_Position\tReference_Allele\t"
    "Tumor_Seq_Allele2\tVariant_Classification\tTumor_Sample_Barcode\tNote\n"
)


def row(gene: str, sample: str, kind: str = "Missense_Mutation", start: int = 1) -> str:
    return f'{gene}\tchr1\t{start}\t{start}\tA\tT\t{kind}\t{sample}\t5" end\n'


def maf(path: Path, *rows: str, zipped: bool = False) -> Path:
    text = ("#version 2.4\n#filedate x\n" + HEADER + "".join(rows)).encode()
    path.write_bytes(gzip.compress(text) if zipped else text)
    return path


def counts(table: MutationTable) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (r.symbol, r.patient): (r.n_variants, r.n_non_silent) for r in table.counts.itertuples()
    }


@pytest.mark.parametrize("zipped", [False, True])
def test_a_maf_counts_variants_by_gene_and_patient(tmp_path: Path, zipped: bool) -> None:
    path = maf(
        tmp_path / "x",
        row("TP53", f"{A}-01A-11D-1", "Nonsense_Mutation"),
        row("TP53", f"{A}-01A-11D-1", "Silent", start=2),
        row("KRAS", f"{B}-01A-11D-1", "Intron"),
        row("Unknown", f"{B}-01A-11D-1", "IGR"),
        row("KRAS", f"{C}-11A-11D-1"),
        row("KRAS", "TCGA-bad"),
        zipped=zipped,
    )
    table = read_mutations(path)
    assert table.layout == "MAF"
    assert table.patients == (A, B)
    assert counts(table) == {("TP53", A): (2, 1), ("KRAS", B): (1, 0)}
    assert [reject.item for reject in table.rejects] == [
        "TCGA-49-0003-11A-11D-1", "TCGA-bad", path.name
    ]  # fmt: skip
    assert table.rejects[2].reason.startswith("1 variants of tumours name no gene")


def test_mafs_put_one_behind_the_other_and_rows_without_a_sample(tmp_path: Path) -> None:
    first = maf(tmp_path / "x", row("TP53", f"{A}-01A"), row("KRAS", ""))
    second = maf(tmp_path / "y", row("EGFR", f"{B}-01A"))
    first.write_text("\n" + first.read_text() + second.read_text())
    table = read_mutations(first)
    assert counts(table) == {("TP53", A): (1, 1), ("EGFR", B): (1, 1)}
    assert [reject.reason for reject in table.rejects] == ["1 variants name no sample; left out"]


def test_a_variant_of_several_aliquots_counts_once(tmp_path: Path) -> None:
    path = maf(
        tmp_path / "x",
        row("TP53", f"{A}-01A-11D-1"),
        row("TP53", f"{A}-01B-11D-1"),
        row("TP53", f"{A}-02A-11D-1", start=9),
        row("TP53", f"{A}-01A-11D-1"),
    )
    assert counts(read_mutations(path)) == {("TP53", A): (2, 2)}


def test_without_places_the_aliquot_with_most_variants_stands_for_the_patient(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x"
    path.write_text(
        "Hugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode\n"
        f"TP53\tSilent\t{A}-01A\nTP53\tMissense_Mutation\t{A}-01A\nTP53\tSilent\t{A}-01B\n"
    )
    assert counts(read_mutations(path)) == {("TP53", A): (2, 1)}


@pytest.mark.parametrize(
    "column", ["Hugo_Symbol", "Variant_Classification", "Tumor_Sample_Barcode"]
)
def test_a_maf_without_a_needed_column_names_it(tmp_path: Path, column: str) -> None:
    path = maf(tmp_path / "x", row("TP53", f"{A}-01A"))
    path.write_text(path.read_text().replace(column, "Renamed"))
    with pytest.raises(SourceError, match=f"lacks a column.*{column}.*it has .*Renamed"):
        read_mutations(path)


def test_a_folder_of_mafs_goes_on_where_one_is_bad(tmp_path: Path) -> None:
    root = tmp_path / "mafs"
    (root / "uuid" / "logs").mkdir(parents=True)
    maf(root / "a.maf", row("TP53", f"{A}-01A-1"))
    maf(root / "uuid" / "b.maf.gz", row("KRAS", f"{B}-01A-1"), zipped=True)
    maf(root / "empty.maf")
    (root / "uuid" / "logs" / "x.parcel").write_text("log")
    (root / "MANIFEST.txt").write_text("id\n")
    (root / "broken.maf.gz").write_bytes(gzip.compress(b"x" * 9_999)[:-9])
    table = read_mutations(root)
    assert (table.layout, table.patients) == ("MAF folder", (A, B))
    reasons = {reject.item: reject.reason for reject in table.rejects}
    assert set(reasons) == {"empty.maf", "broken.maf.gz"}
    assert "no variant and so names no patient" in reasons["empty.maf"]
    assert read_mutations(root).digest == table.digest


def test_two_files_that_disagree_on_a_sample_lose_it(tmp_path: Path) -> None:
    maf(tmp_path / "a", row("TP53", f"{A}-01A"), row("TP53", f"{B}-01A"))
    maf(tmp_path / "b", row("KRAS", f"{A}-01A"), row("TP53", f"{B}-01A"))
    table = read_mutations(tmp_path)
    assert table.patients == (B,)
    assert counts(table) == {("TP53", B): (1, 1)}
    assert [reject.item for reject in table.rejects] == [f"{A}-01A"]
    assert "2 files disagree on its variants (a, b)" in table.rejects[0].reason


def test_a_list_of_sequenced_patients_adds_those_without_a_variant(tmp_path: Path) -> None:
    path = maf(tmp_path / "x", row("TP53", f"{A}-01A"))
    listed = tmp_path / "sequenced.txt"
    listed.write_text(f"case_list_ids: {B}-01\t{C}-11\n")
    assert read_mutations(path, sequenced=listed).patients == (A, B)
    assert (
        read_mutations(path).listing_sha256 != read_mutations(path, sequenced=listed).listing_sha256
    )
    listed.write_text("\n")
    with pytest.raises(SourceError, match="names no sequenced patient"):
        read_mutations(path, sequenced=listed)


def test_cbioportals_table(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(
        "Study ID\tSample ID\tGene\tProtein Change\tMutation Type\tChromosome\tStart Pos\tEnd Pos\t"
        "Ref\tVar\n"
        f"luad\t{A}-01\tTP53\tR1H\tMissense_Mutation\t1\t5\t5\tA\tT\n"
        f"luad\t{B}-01\tTP53\tR1H\tSilent\t1\t5\t5\tA\tT\n"
    )
    table = read_mutations(path)
    assert table.layout == "cBioPortal"
    assert counts(table) == {("TP53", A): (1, 1), ("TP53", B): (1, 0)}


def test_a_zero_one_matrix_knows_wild_type_and_not_sequenced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(f"Gene,{A},{B},{C}\nTP53,1,0,NA\nKRAS,0,0,NA\nEGFR,1,,NA\n")
    table = read_mutations(path)
    assert table.layout == "0/1 matrix"
    assert table.patients == (A, B)
    assert counts(table) == {("TP53", A): (1, 1)}
    assert [reject.item for reject in table.rejects] == ["EGFR"]


def test_cbioportals_matrix_knows_not_sequenced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(
        "STUDY_ID\tSAMPLE_ID\tTP53\tKRAS\n"
        f"luad\t{A}-01\tR1H G2D\tWT\nluad\t{B}-01\tWT\tWT\nluad\t{C}-01\tNS\tNS\n"
    )
    table = read_mutations(path)
    assert (table.layout, table.patients) == ("cBioPortal matrix", (A, B))
    assert counts(table) == {("TP53", A): (2, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"patient,TP53,KRAS\n{A},1,0\n{B},0,0\n", "transposed"),
        (f"gene,{A},{B},{C}\nTP53,1,0,0\nKRAS,0,2,0\n", f"gene KRAS, column {B} holds '2'"),
        ("a,b\nx,y\n", "lacks a column.*Hugo_Symbol"),
        (f"gene,{A}-11\nTP53,1\n", "no tumour sample"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        read_mutations(path)


def test_the_real_maf_gives_the_known_frequencies(shared_data: Path) -> None:
    table = read_mutations(shared_data / "tcga_luad/mutation/gdc_masked_618aliquots.maf.gz")
    assert len(table.patients) == 557
    mutated = table.counts[table.counts["n_non_silent"] > 0]
    percent = 100 * mutated.groupby("symbol")["patient"].nunique() / 557
    known = {"TP53": 49.6, "KRAS": 26.8, "KEAP1": 17.6, "EGFR": 13.3, "STK11": 11.8}
    for symbol, expected in known.items():
        assert percent[symbol] == pytest.approx(expected, abs=0.06)
    assert set(LUNG_DRIVERS) <= set(mutated["symbol"])
    # Frequency alone would choose the long passenger genes.
    assert {"TTN", "MUC16", "CSMD3", "RYR2"} <= set(percent.nlargest(6).index)


def test_the_raw_mafs_load_as_downloaded_alone_and_together(shared_data: Path) -> None:
    folder = shared_data / "tcga_luad/raw_maf"
    together = read_mutations(folder)
    assert (len(together.patients), together.rejects) == (12, ())
    whole = read_mutations(shared_data / "tcga_luad/mutation/gdc_masked_618aliquots.maf.gz")
    one = read_mutations(min(folder.iterdir()))
    assert one.layout == "MAF"
    assert set(one.patients) < set(together.patients) < set(whole.patients)
    # Of this patient the large file has four more aliquots.
    for patient in set(together.patients) - {"TCGA-44-6146"}:
        raw, again = (
            table.counts[table.counts["patient"] == patient].reset_index(drop=True)
            for table in (together, whole)
        )
        assert raw.equals(again)
