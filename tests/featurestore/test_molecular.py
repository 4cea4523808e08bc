"""Molecular tables in a real Postgres: what goes in comes out, once, with missing as missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from featurestore.errors import CohortError, SourceError
from featurestore.molecular import (
    find_source,
    write_clinical,
    write_expression,
    write_gene_sets,
    write_mutations,
)
from featurestore.molecular_frames import (
    clinical_frame,
    expression_frame,
    gene_set,
    mutation_counts,
    mutation_frame,
    source_genes,
    source_patients,
)
from featurestore.patient_matching import (
    expression_disagreements,
    match_patients,
    mutation_disagreements,
)
from featurestore.sources.clinical import read_clinical
from featurestore.sources.expression import read_expression
from featurestore.sources.gene_sets import read_genes
from featurestore.sources.mutations import read_mutations

A, B, C = "TCGA-05-0001", "TCGA-05-0002", "TCGA-49-0003"


@pytest.fixture
def expression(tmp_path: Path):
    path = tmp_path / "expression.csv"
    path.write_text(f"gene,{A},{B}\nTP53,3,1.1\nEGFR,NA,7\n")
    return read_expression(path, unit="FPKM")


@pytest.fixture
def mutations(tmp_path: Path):
    path = tmp_path / "mutations.maf"
    rows = [f"TP53\tMissense_Mutation\t{A}-01A", f"KRAS\tSilent\t{C}-01A"]
    path.write_text("Hugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode\n" + "\n".join(rows))
    return read_mutations(path)


def test_expression_comes_out_as_it_went_in(session: Session, expression) -> None:
    written = write_expression(session, expression)
    assert (written.is_new, written.n_patients, written.n_rows) == (True, 2, 3)
    frame = expression_frame(
        session, written.source_id, patients=[B, C, A], symbols=["TP53", "EGFR", "X"]
    )
    assert list(frame.index) == [B, C, A]
    expected = np.float32([[np.log2(2.1), 3, np.nan], [np.nan] * 3, [2, np.nan, np.nan]])
    np.testing.assert_array_equal(frame.to_numpy(), expected)
    whole = expression_frame(session, written.source_id)
    assert (list(whole.index), list(whole.columns)) == ([A, B], ["EGFR", "TP53"])
    np.testing.assert_array_equal(whole.to_numpy().T, expression.values)


def test_the_same_content_is_the_same_source_wherever_it_lies(
    session: Session, expression, tmp_path: Path
) -> None:
    first = write_expression(session, expression)
    moved = tmp_path / "moved.tsv"
    moved.write_text(f"gene\t{B}\t{A}\nEGFR\t7\t\nTP53\t1.1\t3\n")
    again = read_expression(moved, unit="FPKM")
    second = write_expression(session, again)
    assert (second.source_id, second.is_new) == (first.source_id, False)
    found = find_source(session, moved, again.listing_sha256, kind="expression")
    assert found is not None
    assert found.source_id == first.source_id
    assert find_source(session, moved, "0" * 64) is None
    assert (
        session.scalar(text("SELECT count(*) FROM gene_expression WHERE patient_id = :p"), {"p": B})
        == 2
    )


def test_the_database_still_refuses_what_a_loaded_partition_must_not_hold(
    session: Session, expression
) -> None:
    source = write_expression(session, expression).source_id
    key = text("SELECT gene_id, patient_number FROM expression WHERE source_id = :s LIMIT 1")
    gene, patient = session.execute(key, {"s": source}).one()
    for values, constraint in [
        (f"({source}, 0, {patient}, 1)", "genes"),
        (f"({source}, {gene}, 0, 1)", "patients"),
        (f"({source}, {gene}, {patient}, 'NaN')", "value_finite"),
        (f"(0, {gene}, {patient}, 1)", "no partition"),
    ]:
        with pytest.raises(DBAPIError, match=constraint), session.begin_nested():
            session.execute(text(f"INSERT INTO expression VALUES {values}"))
    with pytest.raises(DBAPIError, match="duplicate key"), session.begin_nested():
        session.execute(text("INSERT INTO expression SELECT * FROM expression"))
    session.execute(text("DELETE FROM molecular_sources WHERE source_id = :s"), {"s": source})
    left = session.scalar(
        text("SELECT count(*) FROM expression WHERE source_id = :s"), {"s": source}
    )
    assert left == 0


def test_not_sequenced_is_missing_and_not_wild_type(session: Session, mutations) -> None:
    source = write_mutations(session, mutations).source_id
    assert not write_mutations(session, mutations).is_new
    session.execute(text("INSERT INTO patients (patient_id) VALUES (:p)"), {"p": B})
    frame = mutation_frame(session, source, patients=[A, B, C], symbols=["TP53", "KRAS", "NOPE"])
    nan = np.nan
    np.testing.assert_array_equal(
        frame.to_numpy(), np.float32([[1, 0, nan], [nan, nan, nan], [0, 0, nan]])
    )
    rows = session.execute(
        text(
            "SELECT patient_id, mutated FROM mutation_status WHERE gene = 'TP53'"
            " AND source_id = :s AND patient_id = ANY(:p) ORDER BY patient_id"
        ),
        {"s": source, "p": [A, B, C]},
    ).all()
    assert [tuple(row) for row in rows] == [(A, True), (B, None), (C, False)]
    assert list(mutation_frame(session, source, symbols=["TP53"]).index) == [A, C]
    counts = mutation_counts(session, source, ["KRAS", "TP53", "NOPE"])
    assert counts.to_dict("list") == {
        "symbol": ["TP53", "KRAS"],
        "n_mutated": [1, 0],
        "n_sequenced": [2, 2],
        "share": [0.5, 0.0],
    }
    assert (source_patients(session, source), source_genes(session, source)) == (
        (A, C),
        ("KRAS", "TP53"),
    )


def test_one_statement_joins_expression_and_mutation(
    session: Session, expression, mutations
) -> None:
    e = write_expression(session, expression).source_id
    m = write_mutations(session, mutations).source_id
    rows = session.execute(
        text(
            "SELECT patient_id, value, unit, mutated FROM gene_expression JOIN mutation_status"
            " USING (patient_id) WHERE symbol = 'TP53' AND gene = 'TP53'"
            " AND gene_expression.source_id = :e AND mutation_status.source_id = :m"
            " ORDER BY patient_id"
        ),
        {"e": e, "m": m},
    ).all()
    assert [tuple(row) for row in rows] == [
        (A, 2.0, "FPKM", True),
        (B, pytest.approx(np.log2(2.1)), "FPKM", None),
    ]


CLINICAL = (
    "Study ID\tPatient ID\tSample ID\tDiagnosis Age\tSex\tAJCC Pathologic Stage\tSmoked\n"
    f"luad\t{A}\t{A}-02\t99\tMale\tStage IV\tno\n"
    f"luad\t{A}\t{A}-01\t70\tMale\tStage IIB\tyes\n"
    f"luad\t{B}\t{B}-01\tNA\tFEMALE\t[Not Available]\tNA\n"
    f"luad\t{C}\t{C}-01\t700\tother\tStage X\tno\n"
)


def test_clinical_variables(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "clinical.tsv"
    path.write_text("#comment\n" + CLINICAL)
    table = read_clinical(path)
    assert table.patients == (A, B, C)
    assert list(table.variables.columns[:3]) == ["age", "sex", "stage"]
    assert {
        (reject.item, reject.reason.split()[-1]) for reject in table.rejects if reject.item == C
    } == {(C, "out")}
    assert sum(reject.item == C for reject in table.rejects) == 3
    source = write_clinical(session, table).source_id
    assert not write_clinical(session, table).is_new
    frame = clinical_frame(
        session, source, patients=[B, A], variables=["age", "sex", "stage", "Smoked"]
    )
    assert frame.to_numpy().tolist() == [
        [None, "female", None, None],
        ["70", "male", "II", "yes"],
    ]
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(SourceError, match="names no patients"):
        read_clinical(path)


def test_the_real_clinical_table(shared_data: Path) -> None:
    table = read_clinical(
        shared_data / "tcga_luad/clinical/luad_tcga_gdc_clinical_data_cbioportal.tsv"
    )
    assert len(table.patients) == 569
    assert set(table.variables["sex"].dropna()) == {"female", "male"}
    assert set(table.variables["stage"].dropna()) == {"I", "II", "III", "IV"}
    assert table.variables["age"].dropna().astype(float).between(30, 95).all()


def test_gene_sets_are_replaced_not_piled_up(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "sets.csv"
    path.write_text("B,T\nAAA,CCC\nDDD,\n")
    write_gene_sets(session, read_genes(path))
    write_gene_sets(session, read_genes(path))
    assert gene_set(session, "sets.csv") == ("AAA", "CCC", "DDD")
    path.write_text("B,T\nAAA,EEE\n")
    write_gene_sets(session, read_genes(path))
    assert gene_set(session, "sets.csv", ["T"]) == ("EEE",)
    assert gene_set(session, "sets.csv") == ("AAA", "EEE")


def test_patients_of_one_table_only_are_named_and_counted() -> None:
    matched = match_patients([A, B], {"expression": [A, C], "mutation": [A, B, C]})
    assert matched.patients == (A,)
    reasons = {reject.item: reject.reason for reject in matched.rejects}
    assert reasons == {
        "expression": f"1 of its 2 patients have no tissue here: {C}",
        "mutation": f"1 of its 3 patients have no tissue here: {C}",
        B: "the patient has tissue, but is not in the table of expression",
    }
    with pytest.raises(CohortError, match="no patient has both tissue and expression.*P1"):
        match_patients(["P1"], {"expression": [A]})


def test_tables_that_disagree_on_a_patient_are_told() -> None:
    rng = np.random.default_rng(0)
    genes = [f"G{n}" for n in range(200)]
    first = pd.DataFrame(rng.lognormal(1, 2, (2, 200)), index=[A, B], columns=genes)
    second = np.log2(first + 1)
    assert expression_disagreements(first, second, ["one", "two"]) == ()
    broken = second.copy()
    broken.loc[B] = rng.permutation(broken.loc[B])
    (reject,) = expression_disagreements(first, broken, ["one", "two"])
    assert reject.item == B
    assert "one and two disagree" in reject.reason
    swapped = second.set_axis([B, A])
    both = expression_disagreements(first, swapped, ["one", "two"])
    assert [reject.item for reject in both] == [A, B]
    assert f"but 1.000 with {B} of two" in both[0].reason

    status = pd.DataFrame(
        [[1, 0], [0, np.nan]], index=[A, B], columns=["TP53", "KRAS"], dtype=float
    )
    other = pd.DataFrame([[1, 1], [0, 1]], index=[A, B], columns=["TP53", "KRAS"], dtype=float)
    (told,) = mutation_disagreements(status, other, ["maf", "matrix"])
    assert (told.item, told.reason) == (
        A,
        "maf and matrix disagree on its mutations: KRAS only in matrix",
    )


@pytest.mark.slow
def test_the_real_tables_load_in_a_minute(session: Session, shared_data: Path) -> None:
    from time import perf_counter

    start = perf_counter()
    table = read_expression(
        shared_data / "tcga_luad/expression/fpkm_463cases_19578genes.csv.gz", unit="FPKM"
    )
    written = write_expression(session, table)
    assert perf_counter() - start <= 60
    assert written.n_rows == 463 * 19_578
    genes = ["CD8A", "EGFR", "ZZZ3"]
    frame = expression_frame(session, written.source_id, symbols=genes)
    rows = [table.symbols.index(gene) for gene in genes]
    np.testing.assert_array_equal(frame.to_numpy(), table.values[rows].T)
