"""Evidence behind comparisons: the test reported, further tests, and robustness.

A comparison says which test it reports, with that test's interval, p-value and corrections for
many questions. What other tests say, average ranks, and what random folds, strata and clinical
variables explain get tables of their own.

Comparisons that are there already report the corrected resampled t-test; their posterior is
computed when they are made anew. Going back forgets comparisons that report another test, and
the next run makes them again.

Revision ID: 0010
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# In the order of their making; the first stands since 0007 and is made anew.
_VIEWS = (
    "study_comparisons",
    "study_tests",
    "study_fold_optimism",
    "study_strata",
    "study_added_value",
    "study_encoder_ranks",
)
_NEW_TABLES = (
    "comparison_tests",
    "encoder_ranks",
    "robustness",
    "fold_optimism",
    "stratum_differences",
    "added_value",
)
_COLUMNS = {
    "test": (
        sa.Text(),
        "The test reported: corrected_t, or jackknife (further tests: comparison_tests)",
    ),
    "standard_error": (sa.DOUBLE_PRECISION(), "Of the difference, by that test"),
    "p": (sa.DOUBLE_PRECISION(), "Its two-sided p-value"),
    "p_holm": (
        sa.DOUBLE_PRECISION(),
        "Holm of p over the pairs of encoders of the target and metric",
    ),
    "rope": (
        sa.DOUBLE_PRECISION(),
        "Differences up to this size count as equivalent; NULL if not computed yet",
    ),
    "p_a_better": (
        sa.DOUBLE_PRECISION(),
        "Posterior probability that A is better by more than rope",
    ),
    "p_equivalent": (sa.DOUBLE_PRECISION(), "Posterior probability of a difference within rope"),
    "p_b_better": (
        sa.DOUBLE_PRECISION(),
        "Posterior probability that B is better by more than rope",
    ),
}
_REQUIRED = ("test", "standard_error", "p", "p_holm")
_RULES = {
    "test_known": "test IN ('corrected_t', 'jackknife')",
    "p_range": "p BETWEEN 0 AND 1 AND p_holm BETWEEN p AND 1",
    "standard_error_range": "standard_error >= 0",
    "posterior_whole": (
        "num_nonnulls(rope, p_a_better, p_equivalent, p_b_better) IN (0, 4) "
        "AND abs(p_a_better + p_equivalent + p_b_better - 1) < 1e-6"
    ),
}
_Q = (
    "Benjamini-Hochberg of {} over the genes of the pair and metric; NULL where there is one "
    "question only"
)
_ENDS = {"ci_low": "Lower end of its 95 % interval", "ci_high": "Upper end of its 95 % interval"}


def _statements(revision: str) -> str:
    return (Path(__file__).parent / revision).with_suffix(".sql").read_text(encoding="utf-8")


def _execute(statements: str) -> None:
    # By the driver: to SQLAlchemy a colon in a text would be a parameter.
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def _rename_q(old: str, new: str) -> None:
    op.execute(f"ALTER TABLE comparisons RENAME COLUMN {old} TO {new}")
    op.execute(
        f"ALTER TABLE comparisons RENAME CONSTRAINT ck_comparisons_{old}_range "
        f"TO ck_comparisons_{new}_range"
    )


def _comment(column: str, text: str) -> None:
    op.execute(f"COMMENT ON COLUMN comparisons.{column} IS '{text}'")


def upgrade() -> None:
    op.execute("DROP VIEW study_comparisons")
    _rename_q("q_corrected", "q")
    _comment("q", _Q.format("p"))
    for column, text in _ENDS.items():
        _comment(column, text)
    for name, (kind, comment) in _COLUMNS.items():
        op.add_column("comparisons", sa.Column(name, kind, nullable=True, comment=comment))
    _fill_in()
    for name in _REQUIRED:
        op.alter_column("comparisons", name, nullable=False)
    for name, rule in _RULES.items():
        op.create_check_constraint(op.f(f"ck_comparisons_{name}"), "comparisons", rule)
    _create_tables()
    _execute(_statements("0010_evidence"))


def _fill_in() -> None:
    """What a comparison says already, in the new columns."""
    op.execute("""
        UPDATE comparisons
           SET test = 'corrected_t',
               p = p_corrected,
               standard_error = CASE
                   WHEN t_corrected IN (0, 'Infinity', '-Infinity') THEN (ci_high - ci_low) / 4
                   ELSE abs(difference / t_corrected) END
    """)
    op.execute("""
        WITH ordered AS (
            SELECT experiment_id, target, metric, encoder_a, encoder_b, p,
                   count(*) OVER family - row_number() OVER (family ORDER BY p) + 1 AS n_left
              FROM comparisons
            WINDOW family AS (PARTITION BY experiment_id, target, metric)
        ), stepped AS (
            SELECT experiment_id, target, metric, encoder_a, encoder_b,
                   least(1, max(n_left * p) OVER (
                       PARTITION BY experiment_id, target, metric ORDER BY p, n_left DESC
                       ROWS UNBOUNDED PRECEDING)) AS p_holm
              FROM ordered
        )
        UPDATE comparisons SET p_holm = stepped.p_holm FROM stepped
         WHERE comparisons.experiment_id = stepped.experiment_id
           AND comparisons.target = stepped.target
           AND comparisons.metric = stepped.metric
           AND comparisons.encoder_a = stepped.encoder_a
           AND comparisons.encoder_b = stepped.encoder_b
    """)


def downgrade() -> None:
    for view in reversed(_VIEWS):
        op.execute(f"DROP VIEW {view}")
    for name in reversed(_NEW_TABLES):
        op.drop_table(name)
    op.execute("""
        UPDATE experiments SET is_current = false WHERE experiment_id IN
            (SELECT experiment_id FROM comparisons WHERE test <> 'corrected_t')
    """)
    op.execute("DELETE FROM comparisons WHERE test <> 'corrected_t'")
    for name in _RULES:
        op.drop_constraint(op.f(f"ck_comparisons_{name}"), "comparisons", type_="check")
    for name in _COLUMNS:
        op.drop_column("comparisons", name)
    _rename_q("q", "q_corrected")
    _comment("q_corrected", _Q.format("p_corrected"))
    for column in _ENDS:
        _comment(column, "95 % interval, corrected variance")
    _execute(_as_of_0007("study_comparisons"))


def _as_of_0007(view: str) -> str:
    """How migration 0007 made a view, comments included."""
    _, _, rest = _statements("0007_views").partition(f"CREATE VIEW {view} AS")
    return f"CREATE VIEW {view} AS" + rest.partition("CREATE VIEW ")[0]


def _create_tables() -> None:
    op.create_table(
        "comparison_tests",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="all, a class or a gene"),
        sa.Column("metric", sa.Text(), nullable=False, comment="accuracy, auroc, …"),
        sa.Column(
            "encoder_a", sa.Text(), nullable=False, comment="Name of the first encoder in the study"
        ),
        sa.Column(
            "encoder_b",
            sa.Text(),
            nullable=False,
            comment="Name of the second encoder in the study",
        ),
        sa.Column("test", sa.Text(), nullable=False, comment="jackknife, bootstrap or delong"),
        sa.Column(
            "difference",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="B minus A, as this test takes it",
        ),
        sa.Column(
            "standard_error", sa.DOUBLE_PRECISION(), nullable=False, comment="Of the difference"
        ),
        sa.Column(
            "ci_low",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Lower end of the 95 % interval",
        ),
        sa.Column(
            "ci_high",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Upper end of the 95 % interval",
        ),
        sa.Column("p", sa.DOUBLE_PRECISION(), nullable=False, comment="Two-sided"),
        sa.Column("n_patients", sa.Integer(), nullable=False, comment="Patients that it rests on"),
        sa.Column(
            "variance_tested",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Jackknife variance over who is tested; NULL of other tests",
        ),
        sa.Column(
            "variance_pairs",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Variance of pairs of one tested and one trained on, of which the "
            "jackknife's error has half; NULL of other tests",
        ),
        sa.CheckConstraint(
            "(test = 'jackknife') = (variance_tested IS NOT NULL) "
            "AND (test = 'jackknife') = (variance_pairs IS NOT NULL)",
            name=op.f("ck_comparison_tests_variances_of_jackknife"),
        ),
        sa.CheckConstraint(
            "test IN ('jackknife', 'bootstrap', 'delong')",
            name=op.f("ck_comparison_tests_test_known"),
        ),
        sa.CheckConstraint("encoder_a <> encoder_b", name=op.f("ck_comparison_tests_two_encoders")),
        sa.CheckConstraint("n_patients > 0", name=op.f("ck_comparison_tests_n_patients_positive")),
        sa.CheckConstraint("p BETWEEN 0 AND 1", name=op.f("ck_comparison_tests_p_range")),
        sa.CheckConstraint(
            "standard_error >= 0 AND ci_low <= ci_high",
            name=op.f("ck_comparison_tests_error_possible"),
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_a"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_comparison_tests_encoder_a",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_b"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_comparison_tests_encoder_b",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id",
            "target",
            "metric",
            "encoder_a",
            "encoder_b",
            "test",
            name=op.f("pk_comparison_tests"),
        ),
        comment="Further tests of a comparison; comparisons.test says which one is reported",
    )
    op.create_table(
        "encoder_ranks",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False, comment="accuracy, auroc, …"),
        sa.Column(
            "mean_rank",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Over the targets; 1 is the best",
        ),
        sa.Column(
            "mean_score",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Over the targets, in the metric's unit",
        ),
        sa.Column(
            "critical_difference",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Encoders whose ranks differ by less cannot be told apart (Nemenyi, 0.05)",
        ),
        sa.Column(
            "p_f",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Iman and Davenport's p that all rank alike; too small over genes of one "
            "cohort",
        ),
        sa.Column("n_targets", sa.Integer(), nullable=False, comment="Targets ranked"),
        sa.CheckConstraint("mean_rank >= 1", name=op.f("ck_encoder_ranks_rank_from_one")),
        sa.CheckConstraint("p_f BETWEEN 0 AND 1", name=op.f("ck_encoder_ranks_p_range")),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_encoder_ranks_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "model_version_id", "metric", name=op.f("pk_encoder_ranks")
        ),
        comment="Average ranks of three or more encoders; 1 is the best",
    )
    op.create_table(
        "robustness",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="folds, strata or added_value"),
        sa.Column(
            "n_rows",
            sa.Integer(),
            nullable=False,
            comment="Rows that it came to in the table of its name",
        ),
        sa.Column(
            "note", sa.Text(), nullable=False, comment="What was left out, and why; else empty"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint(
            "kind IN ('folds', 'strata', 'added_value')", name=op.f("ck_robustness_kind_known")
        ),
        sa.CheckConstraint(
            "n_rows > 0 OR note <> ''", name=op.f("ck_robustness_absence_explained")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.experiment_id"],
            name=op.f("fk_robustness_experiment_id_experiments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("experiment_id", "kind", name=op.f("pk_robustness")),
        comment="Which checks of an experiment's robustness were made, and which could not be",
    )
    op.create_table(
        "fold_optimism",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="all, a class or a gene"),
        sa.Column("metric", sa.Text(), nullable=False, comment="accuracy, auroc, …"),
        sa.Column(
            "kept",
            sa.Text(),
            nullable=False,
            comment="What the second kind of folds keeps whole: patient or site",
        ),
        sa.Column(
            "random_score",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean score under random folds",
        ),
        sa.Column(
            "kept_score",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean score with groups kept whole",
        ),
        sa.Column(
            "optimism",
            sa.DOUBLE_PRECISION(),
            sa.Computed("random_score - kept_score", persisted=True),
            nullable=False,
            comment="random_score - kept_score: what random folds add",
        ),
        sa.Column(
            "n_repeats",
            sa.SmallInteger(),
            nullable=False,
            comment="Repeats of the kind of folds that the experiment itself does not use",
        ),
        sa.CheckConstraint("kept IN ('patient', 'site')", name=op.f("ck_fold_optimism_kept_known")),
        sa.CheckConstraint("n_repeats > 0", name=op.f("ck_fold_optimism_n_repeats_positive")),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_fold_optimism_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "model_version_id", "target", "metric", name=op.f("pk_fold_optimism")
        ),
        comment="Random folds beside folds that keep patients or sites whole",
    )
    op.create_table(
        "stratum_differences",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="Gene symbol"),
        sa.Column("metric", sa.Text(), nullable=False, comment="pearson_r or auroc"),
        sa.Column(
            "encoder_a", sa.Text(), nullable=False, comment="Name of the first encoder in the study"
        ),
        sa.Column(
            "encoder_b",
            sa.Text(),
            nullable=False,
            comment="Name of the second encoder in the study",
        ),
        sa.Column("variable", sa.Text(), nullable=False, comment="Clinical column, or site"),
        sa.Column("stratum", sa.Text(), nullable=False, comment="Value of the column"),
        sa.Column("n_patients", sa.Integer(), nullable=False, comment="Patients in the stratum"),
        sa.Column(
            "mean_a", sa.DOUBLE_PRECISION(), nullable=False, comment="Score of encoder_a among them"
        ),
        sa.Column(
            "mean_b", sa.DOUBLE_PRECISION(), nullable=False, comment="Score of encoder_b among them"
        ),
        sa.Column("difference", sa.DOUBLE_PRECISION(), nullable=False, comment="mean_b - mean_a"),
        sa.Column(
            "ci_low",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Lower end of the 95 % bootstrap interval",
        ),
        sa.Column(
            "ci_high",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Upper end of the 95 % bootstrap interval",
        ),
        sa.Column(
            "p", sa.DOUBLE_PRECISION(), nullable=False, comment="Two-sided, patient bootstrap"
        ),
        sa.Column(
            "p_holm",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Holm over the strata of the column",
        ),
        sa.CheckConstraint(
            "encoder_a <> encoder_b", name=op.f("ck_stratum_differences_two_encoders")
        ),
        sa.CheckConstraint(
            "n_patients > 0", name=op.f("ck_stratum_differences_n_patients_positive")
        ),
        sa.CheckConstraint(
            "p BETWEEN 0 AND 1 AND p_holm BETWEEN 0 AND 1",
            name=op.f("ck_stratum_differences_p_range"),
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_a"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_stratum_differences_encoder_a",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "encoder_b"],
            ["experiment_encoders.experiment_id", "experiment_encoders.encoder"],
            name="fk_stratum_differences_encoder_b",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id",
            "target",
            "metric",
            "encoder_a",
            "encoder_b",
            "variable",
            "stratum",
            name=op.f("pk_stratum_differences"),
        ),
        comment="Differences by site, stage, sex and other clinical columns",
    )
    op.create_table(
        "added_value",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="Gene symbol"),
        sa.Column("metric", sa.Text(), nullable=False, comment="pearson_r or auroc"),
        sa.Column(
            "clinical_score",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean score of age, sex and stage alone",
        ),
        sa.Column(
            "combined_score",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean score with the features added",
        ),
        sa.Column(
            "gain",
            sa.DOUBLE_PRECISION(),
            sa.Computed("combined_score - clinical_score", persisted=True),
            nullable=False,
            comment="combined_score - clinical_score",
        ),
        sa.Column(
            "null_low",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="2.5 % point of the gain by chance",
        ),
        sa.Column(
            "null_high",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="97.5 % point of the gain by chance",
        ),
        sa.Column(
            "p",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="One-sided: how often chance gains as much",
        ),
        sa.Column(
            "q",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Benjamini-Hochberg over the encoder's genes",
        ),
        sa.Column(
            "n_patients",
            sa.Integer(),
            nullable=False,
            comment="Patients with a value and clinical data",
        ),
        sa.Column(
            "n_permutations",
            sa.SmallInteger(),
            nullable=False,
            comment="Permutations of the features' rows",
        ),
        sa.CheckConstraint(
            "n_permutations > 0 AND n_patients > 0", name=op.f("ck_added_value_counts_positive")
        ),
        sa.CheckConstraint(
            "p BETWEEN 0 AND 1 AND q BETWEEN 0 AND 1", name=op.f("ck_added_value_p_and_q_range")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_added_value_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "model_version_id", "target", "metric", name=op.f("pk_added_value")
        ),
        comment="Scores of clinical variables without and with features",
    )
