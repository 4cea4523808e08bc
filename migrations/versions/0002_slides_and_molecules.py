"""Slides, patient features, and the molecular tables that they are joined with.

Tiles may now be places on a slide instead of files, and need no label. Expression is millions
of rows, so patients and genes get short integer keys.

Going back removes what only the newer schema can hold: slides, their tiles and embeddings,
data sets of them, and the results on those.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import HALFVEC

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


_VIEWS = (
    """
    CREATE VIEW gene_expression AS
    SELECT patients.patient_id,
           genes.symbol,
           expression.value,
           molecular_sources.unit,
           molecular_sources.name AS source,
           expression.source_id
      FROM expression
      JOIN molecular_sources USING (source_id)
      JOIN genes USING (gene_id)
      JOIN patients USING (patient_number)
    """,
    "COMMENT ON VIEW gene_expression IS"
    " 'Expression with names; a gene that was not measured in a patient has no row'",
    "COMMENT ON COLUMN gene_expression.value IS 'log2(x + 1) of the unit'",
    "COMMENT ON COLUMN gene_expression.unit IS 'Unit as published'",
    "COMMENT ON COLUMN gene_expression.source IS 'The table that it was read from'",
    """
    CREATE VIEW mutation_status AS
    SELECT patients.patient_id,
           genes.symbol AS gene,
           CASE WHEN sequenced_patients.source_id IS NOT NULL
                THEN COALESCE(mutations.n_non_silent > 0, false)
           END AS mutated,
           molecular_sources.name AS source,
           molecular_sources.source_id
      FROM molecular_sources
     CROSS JOIN patients
     CROSS JOIN genes
      LEFT JOIN sequenced_patients
             ON sequenced_patients.source_id = molecular_sources.source_id
            AND sequenced_patients.patient_number = patients.patient_number
      LEFT JOIN mutations
             ON mutations.source_id = molecular_sources.source_id
            AND mutations.gene_id = genes.gene_id
            AND mutations.patient_number = patients.patient_number
     WHERE molecular_sources.kind = 'mutation'
       AND EXISTS (SELECT 1
                     FROM mutations AS named
                    WHERE named.source_id = molecular_sources.source_id
                      AND named.gene_id = genes.gene_id)
    """,
    "COMMENT ON VIEW mutation_status IS"
    " 'Every patient by every gene that the mutation table names: one row a table'",
    "COMMENT ON COLUMN mutation_status.mutated IS"
    " 'At least one non-silent variant; NULL where the patient was not sequenced'",
    "COMMENT ON COLUMN mutation_status.source IS 'The table that it was read from'",
)


def upgrade() -> None:
    op.add_column(
        "patients",
        sa.Column(
            "patient_number",
            sa.Integer(),
            sa.Identity(always=True),
            nullable=False,
            comment="Short key for tables of millions of rows",
        ),
    )
    op.create_unique_constraint(op.f("uq_patients_patient_number"), "patients", ["patient_number"])
    op.create_table(
        "genes",
        sa.Column("gene_id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False, comment="HUGO symbol as published"),
        sa.CheckConstraint("symbol <> ''", name=op.f("ck_genes_symbol_not_empty")),
        sa.PrimaryKeyConstraint("gene_id", name=op.f("pk_genes")),
        sa.UniqueConstraint("symbol", name=op.f("uq_genes_symbol")),
        comment="One row a gene symbol",
    )
    op.create_table(
        "molecular_sources",
        sa.Column("source_id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="expression, mutation or clinical"),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 over the values stored"),
        sa.Column("name", sa.Text(), nullable=False, comment="Last two parts of its path"),
        sa.Column(
            "root", sa.Text(), nullable=False, comment="File or folder where it was last seen"
        ),
        sa.Column(
            "listing_sha256",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over paths, sizes and times of its files when last read",
        ),
        sa.Column(
            "layout", sa.Text(), nullable=False, comment="Format that was recognised by content"
        ),
        sa.Column(
            "unit",
            sa.Text(),
            nullable=True,
            comment="Unit of expression as published; stored values are log2(x + 1) of it",
        ),
        sa.Column("n_patients", sa.Integer(), nullable=False, comment="Patients with a value"),
        sa.Column(
            "read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "(kind = 'expression') = (unit IS NOT NULL)",
            name=op.f("ck_molecular_sources_expression_has_unit"),
        ),
        sa.CheckConstraint(
            "digest ~ '^[0-9a-f]{64}$'", name=op.f("ck_molecular_sources_digest_is_hex")
        ),
        sa.CheckConstraint(
            "kind IN ('expression', 'mutation', 'clinical')",
            name=op.f("ck_molecular_sources_kind_known"),
        ),
        sa.CheckConstraint(
            "listing_sha256 ~ '^[0-9a-f]{64}$'",
            name=op.f("ck_molecular_sources_listing_sha256_is_hex"),
        ),
        sa.CheckConstraint("n_patients > 0", name=op.f("ck_molecular_sources_n_patients_positive")),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_molecular_sources")),
        sa.UniqueConstraint("digest", name=op.f("uq_molecular_sources_digest")),
        comment="One row a molecular or clinical table; identified by its content",
    )
    op.create_table(
        "clinical",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("patient_number", sa.Integer(), nullable=False),
        sa.Column("variable", sa.Text(), nullable=False, comment="e.g. sex, age, stage"),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_number"],
            ["patients.patient_number"],
            name=op.f("fk_clinical_patient_number_patients"),
        ),
        sa.ForeignKeyConstraint(
            ["source_id"],
            ["molecular_sources.source_id"],
            name=op.f("fk_clinical_source_id_molecular_sources"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "source_id", "patient_number", "variable", name=op.f("pk_clinical")
        ),
        comment="Clinical variables as text; a missing one has no row",
    )
    op.create_table(
        "expression",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("gene_id", sa.Integer(), nullable=False),
        sa.Column("patient_number", sa.Integer(), nullable=False),
        sa.Column("value", sa.REAL(), nullable=False, comment="log2(x + 1) of the source's unit"),
        sa.CheckConstraint(
            "value > '-Infinity' AND value < 'Infinity'", name=op.f("ck_expression_value_finite")
        ),
        sa.ForeignKeyConstraint(
            ["gene_id"], ["genes.gene_id"], name=op.f("fk_expression_gene_id_genes")
        ),
        sa.ForeignKeyConstraint(
            ["patient_number"],
            ["patients.patient_number"],
            name=op.f("fk_expression_patient_number_patients"),
        ),
        sa.ForeignKeyConstraint(
            ["source_id"],
            ["molecular_sources.source_id"],
            name=op.f("fk_expression_source_id_molecular_sources"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "source_id", "gene_id", "patient_number", name=op.f("pk_expression")
        ),
        comment="Gene expression, log2(x + 1); a gene that was not measured has no row",
        postgresql_partition_by="LIST (source_id)",
    )
    op.create_table(
        "gene_sets",
        sa.Column("source", sa.Text(), nullable=False, comment="File it came from"),
        sa.Column("name", sa.Text(), nullable=False, comment="Name of the set"),
        sa.Column("gene_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gene_id"], ["genes.gene_id"], name=op.f("fk_gene_sets_gene_id_genes")
        ),
        sa.PrimaryKeyConstraint("source", "name", "gene_id", name=op.f("pk_gene_sets")),
        comment="Named sets of genes, e.g. LM22: T cells CD8",
    )
    op.create_table(
        "sequenced_patients",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("patient_number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_number"],
            ["patients.patient_number"],
            name=op.f("fk_sequenced_patients_patient_number_patients"),
        ),
        sa.ForeignKeyConstraint(
            ["source_id"],
            ["molecular_sources.source_id"],
            name=op.f("fk_sequenced_patients_source_id_molecular_sources"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("source_id", "patient_number", name=op.f("pk_sequenced_patients")),
        comment="Patients of a mutation table, with or without a variant",
    )
    op.create_table(
        "slides",
        sa.Column("slide_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False, comment="SHA-256 of the file's bytes"),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="File name"),
        sa.Column("width_px", sa.Integer(), nullable=False, comment="Width of level 0 in pixels"),
        sa.Column("height_px", sa.Integer(), nullable=False, comment="Height of level 0 in pixels"),
        sa.Column(
            "mpp",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Resolution of level 0 in µm per pixel",
        ),
        sa.Column(
            "mpp_source",
            sa.Text(),
            nullable=False,
            comment="slide: read from the file; study: given in the study file",
        ),
        sa.CheckConstraint(
            "mpp_source IN ('slide', 'study')", name=op.f("ck_slides_mpp_source_known")
        ),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_slides_sha256_is_hex")),
        sa.CheckConstraint("mpp BETWEEN 0.05 AND 10", name=op.f("ck_slides_mpp_plausible")),
        sa.CheckConstraint("width_px > 0 AND height_px > 0", name=op.f("ck_slides_size_positive")),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patients.patient_id"], name=op.f("fk_slides_patient_id_patients")
        ),
        sa.PrimaryKeyConstraint("slide_id", name=op.f("pk_slides")),
        sa.UniqueConstraint("sha256", name=op.f("uq_slides_sha256")),
        comment="One row a slide file; identified by its bytes",
    )
    op.create_index(op.f("ix_slides_patient_id"), "slides", ["patient_id"], unique=False)
    op.create_table(
        "mutations",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("gene_id", sa.Integer(), nullable=False),
        sa.Column("patient_number", sa.Integer(), nullable=False),
        sa.Column(
            "n_variants",
            sa.Integer(),
            nullable=False,
            comment="All variants of the gene in this patient",
        ),
        sa.Column(
            "n_non_silent",
            sa.Integer(),
            nullable=False,
            comment="Those of them that change the protein",
        ),
        sa.CheckConstraint(
            "n_variants > 0 AND n_non_silent BETWEEN 0 AND n_variants",
            name=op.f("ck_mutations_counts_possible"),
        ),
        sa.ForeignKeyConstraint(
            ["gene_id"], ["genes.gene_id"], name=op.f("fk_mutations_gene_id_genes")
        ),
        sa.ForeignKeyConstraint(
            ["source_id", "patient_number"],
            ["sequenced_patients.source_id", "sequenced_patients.patient_number"],
            name="fk_mutations_sequenced_patient",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "source_id", "gene_id", "patient_number", name=op.f("pk_mutations")
        ),
        comment="Variants by gene and patient; mutated means n_non_silent > 0",
    )
    op.create_table(
        "patient_features",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("pooling", sa.Text(), nullable=False, comment="mean over tiles"),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column(
            "embedding",
            HALFVEC(),
            nullable=False,
            comment="Pooled features, model_versions.dim of them",
        ),
        sa.Column("n_tiles", sa.Integer(), nullable=False, comment="Tiles that were pooled"),
        sa.Column(
            "n_slides",
            sa.Integer(),
            nullable=False,
            comment="Slides (or images) that they come from",
        ),
        sa.CheckConstraint("pooling IN ('mean')", name=op.f("ck_patient_features_pooling_known")),
        sa.CheckConstraint(
            "n_tiles > 0 AND n_slides > 0", name=op.f("ck_patient_features_counts_positive")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_patient_features_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_patient_features_model_version_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patients.patient_id"],
            name=op.f("fk_patient_features_patient_id_patients"),
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id",
            "model_version_id",
            "pooling",
            "patient_id",
            name=op.f("pk_patient_features"),
        ),
        comment="One row a patient, model version, data set and pooling",
    )
    op.alter_column(
        "dataset_tiles",
        "label",
        existing_type=sa.TEXT(),
        nullable=True,
        comment="Class as annotated in this data set; NULL where none is",
        existing_comment="Class as annotated in this data set",
    )
    op.alter_column(
        "dataset_tiles",
        "path",
        existing_type=sa.TEXT(),
        comment="File of the tile, or of its slide, relative to datasets.root",
        existing_comment="File, relative to datasets.root",
        existing_nullable=False,
    )
    op.add_column(
        "tiles",
        sa.Column(
            "slide_id",
            sa.BigInteger(),
            nullable=True,
            comment="NULL for a tile that is a file of its own",
        ),
    )
    op.add_column(
        "tiles",
        sa.Column(
            "x_px",
            sa.Integer(),
            nullable=True,
            comment="Left edge in pixels of the slide's level 0",
        ),
    )
    op.add_column(
        "tiles",
        sa.Column(
            "y_px", sa.Integer(), nullable=True, comment="Top edge in pixels of the slide's level 0"
        ),
    )
    op.add_column(
        "tiles",
        sa.Column(
            "stain",
            sa.Text(),
            server_default="none",
            nullable=False,
            comment="Stain normalisation before embedding",
        ),
    )
    op.alter_column(
        "tiles",
        "sha256",
        existing_type=sa.TEXT(),
        comment="SHA-256 over size and decoded RGB pixels; of a slide's tile over slide, place, "
        "size, mpp and stain",
        existing_comment="SHA-256 over size and decoded RGB pixels",
        existing_nullable=False,
    )
    op.create_index(op.f("ix_tiles_slide_id"), "tiles", ["slide_id"], unique=False)
    op.create_foreign_key(
        op.f("fk_tiles_slide_id_slides"), "tiles", "slides", ["slide_id"], ["slide_id"]
    )
    op.create_check_constraint(
        op.f("ck_tiles_place_told_whole"),
        "tiles",
        "num_nonnulls(slide_id, x_px, y_px) IN (0, 3) AND (slide_id IS NULL OR mpp IS NOT NULL)",
    )
    op.create_check_constraint(op.f("ck_tiles_place_on_slide"), "tiles", "x_px >= 0 AND y_px >= 0")
    op.create_check_constraint(
        op.f("ck_tiles_stain_known"), "tiles", "stain IN ('none', 'macenko')"
    )
    for statement in _VIEWS:
        op.execute(statement)


_UNLABELLED = "SELECT dataset_id FROM dataset_tiles WHERE label IS NULL"
_FORGET = (
    "DELETE FROM experiments WHERE task <> 'tissue'",
    f"""DELETE FROM experiments WHERE dataset_digest IN
        (SELECT digest FROM datasets WHERE dataset_id IN ({_UNLABELLED}))""",
    f"DELETE FROM datasets WHERE dataset_id IN ({_UNLABELLED})",
    """DELETE FROM dataset_tiles WHERE tile_id IN
        (SELECT tile_id FROM tiles WHERE slide_id IS NOT NULL)""",
    """DELETE FROM embeddings WHERE tile_id IN
        (SELECT tile_id FROM tiles WHERE slide_id IS NOT NULL)""",
    """DELETE FROM cv_predictions WHERE tile_id IN
        (SELECT tile_id FROM tiles WHERE slide_id IS NOT NULL)""",
    "DELETE FROM tiles WHERE slide_id IS NOT NULL",
)


def downgrade() -> None:
    op.execute("DROP VIEW mutation_status")
    op.execute("DROP VIEW gene_expression")
    for statement in _FORGET:
        op.execute(statement)
    op.drop_constraint(op.f("ck_tiles_stain_known"), "tiles", type_="check")
    op.drop_constraint(op.f("ck_tiles_place_on_slide"), "tiles", type_="check")
    op.drop_constraint(op.f("ck_tiles_place_told_whole"), "tiles", type_="check")
    op.drop_constraint(op.f("fk_tiles_slide_id_slides"), "tiles", type_="foreignkey")
    op.drop_index(op.f("ix_tiles_slide_id"), table_name="tiles")
    op.alter_column(
        "tiles",
        "sha256",
        existing_type=sa.TEXT(),
        comment="SHA-256 over size and decoded RGB pixels",
        existing_comment="SHA-256 over size and decoded RGB pixels; of a slide's tile over "
        "slide, place, size, mpp and stain",
        existing_nullable=False,
    )
    op.drop_column("tiles", "stain")
    op.drop_column("tiles", "y_px")
    op.drop_column("tiles", "x_px")
    op.drop_column("tiles", "slide_id")
    op.alter_column(
        "dataset_tiles",
        "path",
        existing_type=sa.TEXT(),
        comment="File, relative to datasets.root",
        existing_comment="File of the tile, or of its slide, relative to datasets.root",
        existing_nullable=False,
    )
    op.alter_column(
        "dataset_tiles",
        "label",
        existing_type=sa.TEXT(),
        nullable=False,
        comment="Class as annotated in this data set",
        existing_comment="Class as annotated in this data set; NULL where none is",
    )
    op.drop_table("patient_features")
    op.drop_table("mutations")
    op.drop_index(op.f("ix_slides_patient_id"), table_name="slides")
    op.drop_table("slides")
    op.drop_table("sequenced_patients")
    op.drop_table("gene_sets")
    op.drop_table("expression")
    op.drop_table("clinical")
    op.drop_table("molecular_sources")
    op.drop_table("genes")
    op.drop_constraint(op.f("uq_patients_patient_number"), "patients", type_="unique")
    op.drop_column("patients", "patient_number")
