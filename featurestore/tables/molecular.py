"""What is known of patients besides their tissue: expression, mutations, clinical data."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Identity, Text
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, Now, Sha256, is_sha256, not_empty
from featurestore.tables.tissue import Patient


class Gene(Base):
    """A gene, by its symbol."""

    __tablename__ = "genes"
    __table_args__ = (not_empty("symbol"), {"comment": "One row a gene symbol"})

    gene_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    symbol: Mapped[str] = mapped_column(Text, unique=True, comment="HUGO symbol as published")


class MolecularSource(Base):
    """A table of expression, mutations or clinical data, as it was read."""

    __tablename__ = "molecular_sources"
    __table_args__ = (
        is_sha256("digest"),
        is_sha256("listing_sha256"),
        CheckConstraint("kind IN ('expression', 'mutation', 'clinical')", name="kind_known"),
        CheckConstraint("(kind = 'expression') = (unit IS NOT NULL)", name="expression_has_unit"),
        CheckConstraint("n_patients > 0", name="n_patients_positive"),
        {"comment": "One row a molecular or clinical table; identified by its content"},
    )

    source_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, comment="expression, mutation or clinical")
    digest: Mapped[Sha256] = mapped_column(unique=True, comment="SHA-256 over the values stored")
    name: Mapped[str] = mapped_column(Text, comment="Last two parts of its path")
    root: Mapped[str] = mapped_column(Text, comment="File or folder where it was last seen")
    listing_sha256: Mapped[Sha256] = mapped_column(
        comment="SHA-256 over paths, sizes and times of its files when last read"
    )
    layout: Mapped[str] = mapped_column(Text, comment="Format that was recognised by content")
    unit: Mapped[str | None] = mapped_column(
        Text, comment="Unit of expression as published; stored values are log2(x + 1) of it"
    )
    n_patients: Mapped[int] = mapped_column(comment="Patients with a value")
    read_at: Mapped[Now] = mapped_column(comment="When its files were last read")


class Expression(Base):
    """One gene's expression in one patient.

    The table is partitioned by source: a partition is loaded before it is attached, so its
    keys are checked by one join instead of row by row, four times as fast.
    """

    __tablename__ = "expression"
    __table_args__ = (
        # NaN equals itself in Postgres, so this refuses it along with infinity.
        CheckConstraint("value > '-Infinity' AND value < 'Infinity'", name="value_finite"),
        {
            "postgresql_partition_by": "LIST (source_id)",
            "comment": "Gene expression, log2(x + 1); a gene that was not measured has no row",
        },
    )

    source_id: Mapped[int] = mapped_column(
        ForeignKey(MolecularSource.source_id, ondelete="CASCADE"), primary_key=True
    )
    gene_id: Mapped[int] = mapped_column(ForeignKey(Gene.gene_id), primary_key=True)
    patient_number: Mapped[int] = mapped_column(
        ForeignKey(Patient.patient_number), primary_key=True
    )
    value: Mapped[float] = mapped_column(REAL, comment="log2(x + 1) of the source's unit")


class SequencedPatient(Base):
    """A patient whose tumour was sequenced: only here does no mutation mean wild-type."""

    __tablename__ = "sequenced_patients"
    __table_args__ = ({"comment": "Patients of a mutation table, with or without a variant"},)

    source_id: Mapped[int] = mapped_column(
        ForeignKey(MolecularSource.source_id, ondelete="CASCADE"), primary_key=True
    )
    patient_number: Mapped[int] = mapped_column(
        ForeignKey(Patient.patient_number), primary_key=True
    )


class Mutation(Base):
    """The variants of one gene in one sequenced patient."""

    __tablename__ = "mutations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["source_id", "patient_number"],
            ["sequenced_patients.source_id", "sequenced_patients.patient_number"],
            name="fk_mutations_sequenced_patient",
            ondelete="CASCADE",
        ),
        CheckConstraint(
            "n_variants > 0 AND n_non_silent BETWEEN 0 AND n_variants", name="counts_possible"
        ),
        {"comment": "Variants by gene and patient; mutated means n_non_silent > 0"},
    )

    source_id: Mapped[int] = mapped_column(primary_key=True)
    gene_id: Mapped[int] = mapped_column(ForeignKey(Gene.gene_id), primary_key=True)
    patient_number: Mapped[int] = mapped_column(primary_key=True)
    n_variants: Mapped[int] = mapped_column(comment="All variants of the gene in this patient")
    n_non_silent: Mapped[int] = mapped_column(comment="Those of them that change the protein")


class GeneSet(Base):
    """A gene's membership of a named set."""

    __tablename__ = "gene_sets"
    __table_args__ = ({"comment": "Named sets of genes, e.g. LM22: T cells CD8"},)

    source: Mapped[str] = mapped_column(Text, primary_key=True, comment="File it came from")
    name: Mapped[str] = mapped_column(Text, primary_key=True, comment="Name of the set")
    gene_id: Mapped[int] = mapped_column(ForeignKey(Gene.gene_id), primary_key=True)


class Clinical(Base):
    """One clinical variable of one patient."""

    __tablename__ = "clinical"
    __table_args__ = ({"comment": "Clinical variables as text; a missing one has no row"},)

    source_id: Mapped[int] = mapped_column(
        ForeignKey(MolecularSource.source_id, ondelete="CASCADE"), primary_key=True
    )
    patient_number: Mapped[int] = mapped_column(
        ForeignKey(Patient.patient_number), primary_key=True
    )
    variable: Mapped[str] = mapped_column(Text, primary_key=True, comment="e.g. sex, age, stage")
    value: Mapped[str] = mapped_column(
        Text, comment="As text; age in years, stage as I to IV, others as published"
    )
