"""The views: every column told, rows as the tables have them, filters that reach the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import Session

from featurestore.tables import Base

VIEWS = Path(__file__).parents[2] / "featurestore" / "views"
NAMES = sorted(path.stem for path in VIEWS.glob("*.sql"))


def rows(session: Session, query: str, **values: object) -> list[tuple[object, ...]]:
    return [tuple(row) for row in session.execute(text(query), values)]


def test_every_view_of_the_store_has_a_file_and_every_file_a_view(engine: Engine) -> None:
    assert sorted(inspect(engine).get_view_names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_view_is_what_its_file_says(session: Session, name: str) -> None:
    def described() -> tuple[object, ...]:
        query = """
            SELECT pg_get_viewdef(CAST(:n AS regclass)), obj_description(CAST(:n AS regclass)),
                   ARRAY(SELECT col_description(attrelid, attnum) FROM pg_attribute
                          WHERE attrelid = CAST(:n AS regclass) ORDER BY attnum)
        """
        return rows(session, query, n=name)[0]

    migrated = described()
    session.execute(text(f"DROP VIEW {name} CASCADE"))
    session.connection().exec_driver_sql((VIEWS / f"{name}.sql").read_text().replace("%", "%%"))
    assert described() == migrated


@pytest.mark.parametrize("name", NAMES)
def test_every_view_and_each_of_its_columns_is_commented(engine: Engine, name: str) -> None:
    assert inspect(engine).get_table_comment(name)["text"]
    silent = [
        column["name"] for column in inspect(engine).get_columns(name) if not column["comment"]
    ]
    assert silent == []


@pytest.mark.parametrize("name", sorted(Base.metadata.tables))
def test_every_column_that_is_no_key_is_commented(engine: Engine, name: str) -> None:
    found = inspect(engine)
    keys = set(found.get_pk_constraint(name)["constrained_columns"])
    for reference in found.get_foreign_keys(name):
        keys |= set(reference["constrained_columns"])
    silent = [
        column["name"]
        for column in found.get_columns(name)
        if not column["comment"] and column["name"] not in keys
    ]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_the_example_in_a_view_s_file_runs_and_finds_something(
    small_store: Session, name: str
) -> None:
    head = (VIEWS / f"{name}.sql").read_text().partition("CREATE VIEW")[0]
    example = "\n".join(line.removeprefix("--") for line in head.splitlines())
    query = example[example.index("SELECT") :]
    # The examples name ids and studies that a store of one's own has.
    query = query.replace("'crc5'", "'luad'")
    for key, table in (("experiment_id", "experiments"), ("model_version_id", "model_versions")):
        newest = f"(SELECT max({key}) FROM {table})"
        query = query.replace(f"{key} = 1", f"{key} = {newest}").replace(
            f"{key} = 2", f"{key} = {newest}"
        )
    assert rows(small_store, query)


def test_predictions_of_tissue_come_out_with_class_names(small_store: Session) -> None:
    found = rows(
        small_store,
        """
        SELECT observed_class, predicted_class, is_correct, p_observed_class, p_predicted_class,
               patient_id, fold
          FROM tissue_predictions
         WHERE study = 'luad' AND encoder = 'ftx-2048' AND repeat = 1 ORDER BY tile_id
        """,
    )
    assert sorted(found) == sorted(
        [
            ("STR", "STR", True, 0.75, 0.75, "CRC-1", 1),
            ("STR", "STR", True, 0.75, 0.75, "CRC-1", 0),
            ("TUM", "TUM", True, 0.75, 0.75, "CRC-1", 1),
            ("TUM", "STR", False, 0.25, 0.75, "CRC-1", 0),
        ]
    )
    # Two encoders, four tiles, two repeats: nothing of the experiment before.
    assert rows(small_store, "SELECT count(*) FROM tissue_predictions") == [(16,)]


def test_predictions_of_genes_come_out_one_a_repeat(small_store: Session) -> None:
    found = rows(
        small_store,
        """
        SELECT patient_id, repeat, fold, observed, predicted * 32, unit FROM gene_predictions
         WHERE study = 'luad' AND task = 'expression' AND encoder = 'ftx-2048' AND gene = 'CD8A'
         ORDER BY patient_id, repeat
        """,
    )
    unit = "log2(FPKM+1)"
    assert found == [
        ("TCGA-05-0001", 0, 0, 2.0, 0.0, unit),
        ("TCGA-05-0001", 1, 1, 2.0, 9.0, unit),
        ("TCGA-05-0002", 0, 1, 3.0, 3.0, unit),
        ("TCGA-05-0002", 1, 0, 3.0, 12.0, unit),
    ]
    units = rows(
        small_store, "SELECT DISTINCT unit, gene FROM gene_predictions WHERE task = 'mutation'"
    )
    assert units == [("probability", "TP53")]


def test_a_unit_that_is_a_logarithm_is_not_taken_twice(small_store: Session) -> None:
    rows_of = "SELECT DISTINCT unit FROM gene_predictions WHERE task = 'expression'"
    small_store.execute(
        text("UPDATE molecular_sources SET unit = 'log2(TPM+1)' WHERE kind = 'expression'")
    )
    assert rows(small_store, rows_of) == [("log2(TPM+1)",)]
    units = "SELECT DISTINCT expression_unit FROM study_patient_genes WHERE expression IS NOT NULL"
    assert rows(small_store, units) == [("log2(TPM+1)",)]


def test_scores_and_comparisons_are_those_that_the_study_shows(small_store: Session) -> None:
    assert rows(
        small_store,
        "SELECT encoder, count(*), count(value), avg(value) FROM split_scores"
        " WHERE study = 'luad' GROUP BY encoder ORDER BY encoder",
    ) == [("ftx-2048", 4, 0, None), ("imgnet-2048", 4, 4, 0.75)]
    assert rows(
        small_store, "SELECT task, count(*) FROM study_comparisons GROUP BY task ORDER BY task"
    ) == [("expression", 3), ("mutation", 3), ("tissue", 1)]
    (shown,) = rows(
        small_store,
        "SELECT encoder_a, encoder_b, n_better_b, n_genes FROM better_gene_counts",
    )
    assert shown == ("imgnet-2048", "ftx-2048", 2, 3)


def test_what_was_left_out_is_told_once_with_its_kind(small_store: Session) -> None:
    found = rows(
        small_store,
        "SELECT kind, file, reason_pattern, n_runs, last_run_id IS NOT NULL FROM left_out"
        " WHERE study = 'luad' ORDER BY kind, file, item",
    )
    gone = ("tile", "TCGA-49-0004-01Z-00-DX1.svs", "the slide is gone", 2, True)
    unreadable = "OpenSlide cannot open it"
    assert found[:1] + found[2:] == [
        ("file", "TCGA-05-0001-01Z-00-DX1.svs", unreadable, 2, True),
        ("file", "TCGA-49-0006-01Z-00-DX1.svs", unreadable, 2, True),
        gone,
        gone,
    ]
    kind, file, pattern, *_ = found[1]
    assert (kind, file) == ("file", "TCGA-49-0005-01Z-00-DX1.svs")
    assert str(pattern).startswith("no tile: all of # places were left out (# background)")


def test_slides_are_counted_by_encoder(small_store: Session) -> None:
    assert rows(
        small_store,
        "SELECT encoder, patient_id, n_tiles, n_embedded, mpp FROM study_slides"
        " WHERE study = 'luad' AND encoder = 'ftx-2048' ORDER BY file",
    ) == [
        ("ftx-2048", "TCGA-05-0001", 2, 2, 0.25),
        ("ftx-2048", "TCGA-05-0002", 2, 2, 0.25),
        ("ftx-2048", "TCGA-49-0003", 2, 2, 0.25),
        ("ftx-2048", "TCGA-49-0004", 2, 0, 0.25),
    ]


def test_tiles_of_a_gene_are_told_with_their_place_and_unit(small_store: Session) -> None:
    found = rows(
        small_store,
        "SELECT encoder, gene, side, rank, score, unit, patient_id, slide, x_px, y_px, mean_score"
        " FROM study_gene_tiles WHERE study = 'luad' ORDER BY side",
    )
    assert [row[:6] for row in found] == [
        ("ftx-2048", "CD8A", "high", 1, 4.5, "log2(FPKM+1)"),
        ("ftx-2048", "CD8A", "low", 1, 0.5, "log2(FPKM+1)"),
    ]
    assert [row[6:] for row in found] == [
        (patient, f"{patient}-01Z-00-DX1.svs", 0, 896, 0.6)
        for patient in ("TCGA-05-0001", "TCGA-49-0003")
    ]


def test_a_comparison_leads_back_to_weights_tiles_and_run(small_store: Session) -> None:
    found = rows(
        small_store,
        """
        SELECT side, encoder, network, trained_on_digest IS NOT NULL, training ->> 'seed', seed,
               dagster_run_id, gene_table LIKE '%fpkm.csv', experiment_id
          FROM comparison_provenance
         WHERE study = 'luad' AND task = 'expression' AND target = 'CD8A' AND is_current
         ORDER BY side
        """,
    )
    experiment_id = found[0][-1]
    assert [row[:-1] for row in found] == [
        ("a", "imgnet-2048", "imgnet", False, None, 7, "run-of-expression", True),
        ("b", "ftx-2048", "ftx", True, "7", 7, "run-of-expression", True),
    ]
    tiles = rows(
        small_store,
        "SELECT encoder, used_for, is_embedded, count(*), count(x_px), count(DISTINCT slide_sha256)"
        " FROM experiment_tiles WHERE experiment_id = :e GROUP BY encoder, used_for, is_embedded"
        " ORDER BY encoder, used_for, is_embedded",
        e=experiment_id,
    )
    assert tiles == [
        ("ftx-2048", "evaluation", False, 2, 2, 1),
        ("ftx-2048", "evaluation", True, 6, 6, 3),
        ("ftx-2048", "fine-tuning", None, 2, 0, 0),
        ("imgnet-2048", "evaluation", False, 2, 2, 1),
        ("imgnet-2048", "evaluation", True, 6, 6, 3),
    ]
    # The experiment that the study no longer shows can still be asked for.
    assert rows(
        small_store,
        "SELECT count(DISTINCT experiment_id), count(DISTINCT experiment_id) FILTER"
        " (WHERE is_current) FROM comparison_provenance WHERE task = 'tissue'",
    ) == [(2, 1)]


def test_a_line_of_fine_tuning_is_told_to_its_end(small_store: Session) -> None:
    assert rows(
        small_store,
        "SELECT generation, network, trained_on FROM model_lineage WHERE model_version_id ="
        " (SELECT model_version_id FROM study_models WHERE encoder = 'ftx-2048')"
        " ORDER BY generation",
    ) == [(0, "ftx", "crc/train"), (1, "imgnet", "ImageNet-1k")]


def test_another_study_sees_its_own(small_store: Session) -> None:
    named = [name for name in NAMES if "study" in _columns(small_store, name)]
    assert len(named) > 10
    for name in named:
        assert rows(small_store, f"SELECT count(*) FROM {name} WHERE study = 'other'") == [(0,)]
        assert rows(small_store, f"SELECT count(*) > 0 FROM {name} WHERE study = 'luad'") == [
            (True,)
        ]


def _columns(session: Session, name: str) -> set[str]:
    return {column["name"] for column in inspect(session.connection()).get_columns(name)}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("tissue_predictions", "cv_predictions"),
        ("gene_predictions", "cv_gene_predictions"),
        ("split_scores", "cv_scores"),
        ("experiment_tiles", "dataset_tiles"),
    ],
)
def test_a_filter_on_the_experiment_reaches_the_large_table(
    small_store: Session, name: str, table: str
) -> None:
    # The tables are small here, and a scan would be cheapest: what is asked is whether the filter
    # can be used at all.
    small_store.execute(text("SET LOCAL enable_seqscan = off"))
    plan = small_store.scalar(
        text(
            f"EXPLAIN (FORMAT JSON) SELECT * FROM {name} WHERE study = 'luad' AND experiment_id = 1"
        )
    )

    def scans(node: dict) -> list[dict]:
        below = [found for child in node.get("Plans", []) for found in scans(child)]
        return [node, *below] if node.get("Relation Name") == table else below

    found = scans(plan[0]["Plan"])
    assert found
    for scan in found:
        assert "Index" in scan["Node Type"] or "Bitmap" in scan["Node Type"], scan
