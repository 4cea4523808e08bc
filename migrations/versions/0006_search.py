"""Similarity search: codes per model version, tiles that wait for one, search functions, quality.

HNSW on full vectors of 2,048 features takes a page a tile. Codes of at most 256 dimensions
find the candidates instead, and full vectors rank them. A trigger notes every embedding that
has no code yet, so that search compares it exactly and never misses it.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import HALFVEC

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


# As in featurestore/functions/, which says what they are for.
_FUNCTIONS = (
    """
    CREATE FUNCTION await_search_code() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO search_pending (model_version_id, tile_id)
        SELECT NEW.model_version_id, NEW.tile_id
         WHERE EXISTS (SELECT FROM search_projections AS s
                        WHERE s.model_version_id = NEW.model_version_id);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TYPE tile_hit AS (
        rank integer,
        tile_id bigint,
        distance double precision,
        label text,
        dataset text,
        path text,
        patient_id text,
        site text,
        slide text,
        slide_id bigint,
        x_px integer,
        y_px integer,
        width_px integer,
        height_px integer,
        mpp double precision,
        how text
    )
    """,
    """
    CREATE FUNCTION search_tiles(
        model_version_id bigint,
        query halfvec,
        query_code halfvec,
        k integer DEFAULT 20,
        label text DEFAULT NULL,
        dataset text DEFAULT NULL,
        patient text DEFAULT NULL,
        not_tile bigint DEFAULT NULL,
        not_patient text DEFAULT NULL,
        not_site text DEFAULT NULL,
        exact boolean DEFAULT false
    ) RETURNS SETOF tile_hit
    LANGUAGE plpgsql STABLE
    SET hnsw.iterative_scan = relaxed_order
    SET hnsw.max_scan_tuples = 20000
    SET hnsw.scan_mem_multiplier = 4
    SET hnsw.ef_search = 100
    SET enable_sort = on
    SET jit = off
    AS $$
    #variable_conflict use_column
    DECLARE
        -- Where no more tiles than this come into question, comparing them all is quick and exact.
        few constant integer := 2000;
        -- So many of the nearest by code are ranked by their full vectors.
        n_candidates constant integer := greatest(100, 4 * least(search_tiles.k, 250));
        embeddings_name constant text := 'embeddings_v' || search_tiles.model_version_id;
        codes_name constant text := 'search_codes_v' || search_tiles.model_version_id;
        dataset_ids bigint[];
        code_dim integer;
        n_at_fit bigint;
        n_pending bigint;
        n_matching bigint;
        wanted text := '';
        candidates bigint[];
        pending bigint[];
        found bigint[];
        distances double precision[];
        how text := 'exact';
        by_code boolean := false;
    BEGIN
        IF search_tiles.k IS NULL OR search_tiles.k < 1 THEN
            RAISE EXCEPTION 'k = %; expected at least 1', search_tiles.k
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF to_regclass(embeddings_name) IS NULL THEN
            RAISE EXCEPTION 'the store holds no model version %', search_tiles.model_version_id
                USING ERRCODE = 'no_data_found', HINT = 'model_versions lists those it holds.';
        END IF;
        IF search_tiles.query IS NULL OR l2_norm(search_tiles.query) = 0 THEN
            RAISE EXCEPTION 'the query vector is empty or zero, so nothing is near it'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;

        -- Only conditions that were asked for: the planner then needs no other table. Parameters
        -- have the same numbers in every statement below.
        IF search_tiles.dataset IS NOT NULL THEN
            SELECT coalesce(array_agg(d.dataset_id), '{}') INTO dataset_ids
              FROM datasets AS d
             WHERE d.name = search_tiles.dataset OR d.digest = search_tiles.dataset;
        END IF;
        IF search_tiles.label IS NOT NULL OR dataset_ids IS NOT NULL THEN
            wanted := wanted
                || ' AND EXISTS (SELECT FROM dataset_tiles AS m WHERE m.tile_id = x.tile_id'
                || CASE WHEN search_tiles.label IS NULL THEN '' ELSE ' AND m.label = $3' END
                || CASE WHEN dataset_ids IS NULL THEN '' ELSE ' AND m.dataset_id = ANY ($4)' END
                || ')';
        END IF;
        IF search_tiles.patient IS NOT NULL OR search_tiles.not_patient IS NOT NULL THEN
            -- Whoever cannot be told not to be this patient (or of this site) is left out, too.
            wanted := wanted || ' AND EXISTS (SELECT FROM tiles AS t WHERE t.tile_id = x.tile_id'
                || CASE WHEN search_tiles.patient IS NULL THEN ''
                        ELSE ' AND t.patient_id = $5' END
                || CASE WHEN search_tiles.not_patient IS NULL THEN ''
                        ELSE ' AND t.patient_id <> $7' END
                || ')';
        END IF;
        IF search_tiles.not_site IS NOT NULL THEN
            wanted := wanted
                || ' AND EXISTS (SELECT FROM tiles AS t JOIN patients AS p USING (patient_id)'
                ' WHERE t.tile_id = x.tile_id AND p.tissue_source_site <> $8)';
        END IF;
        IF search_tiles.not_tile IS NOT NULL THEN
            wanted := wanted || ' AND x.tile_id <> $6';
        END IF;

        IF NOT search_tiles.exact AND search_tiles.query_code IS NOT NULL
           AND search_tiles.k <= 250 THEN
            SELECT s.code_dim, s.n_at_fit INTO code_dim, n_at_fit
              FROM search_projections AS s
             WHERE s.model_version_id = search_tiles.model_version_id;
            SELECT count(*) INTO n_pending
              FROM (SELECT FROM search_pending AS s
                     WHERE s.model_version_id = search_tiles.model_version_id
                     LIMIT few + 1) AS counted;
            by_code := n_at_fit > few AND n_pending <= few;
        END IF;
        IF by_code AND coalesce(search_tiles.label, search_tiles.dataset, search_tiles.patient)
                       IS NOT NULL THEN
            EXECUTE format(
                'SELECT count(*) FROM (SELECT FROM %I AS x WHERE true%s LIMIT $1) AS counted',
                embeddings_name, wanted
            ) INTO n_matching
              USING few + 1, NULL::integer, search_tiles.label, dataset_ids, search_tiles.patient,
                    search_tiles.not_tile, search_tiles.not_patient, search_tiles.not_site;
            by_code := n_matching > few;
        END IF;

        IF by_code THEN
            -- Without sorting, the index is the only way to this order: the planner does not weigh
            -- it against reading every code.
            PERFORM set_config('enable_sort', 'off', true);
            PERFORM set_config('hnsw.ef_search', n_candidates::text, true);
            EXECUTE format(
                'SELECT array_agg(tile_id) FROM (SELECT x.tile_id FROM %I AS x WHERE true%s'
                ' ORDER BY x.code::halfvec(%s) <-> $1::halfvec(%s) LIMIT $2) AS nearest',
                codes_name, wanted, code_dim, code_dim
            ) INTO candidates
              USING search_tiles.query_code, n_candidates, search_tiles.label, dataset_ids,
                    search_tiles.patient, search_tiles.not_tile, search_tiles.not_patient,
                    search_tiles.not_site;
            PERFORM set_config('enable_sort', 'on', true);
            -- Fewer than asked for: the scan gave up before it had seen enough of the tiles wanted.
            IF cardinality(candidates) = n_candidates THEN
                how := 'hnsw code + exact re-rank';
                IF n_pending > 0 THEN
                    EXECUTE format(
                        'SELECT array_agg(x.tile_id) FROM search_pending AS x'
                        ' WHERE x.model_version_id = $1%s', wanted
                    ) INTO pending
                      USING search_tiles.model_version_id, NULL::integer, search_tiles.label,
                            dataset_ids, search_tiles.patient, search_tiles.not_tile,
                            search_tiles.not_patient, search_tiles.not_site;
                    candidates := candidates || pending;
                END IF;
                wanted := ' AND x.tile_id = ANY ($9)';
            END IF;
        END IF;

        -- NaN, the distance to a zero vector, sorts last; such a tile is nobody's neighbour.
        EXECUTE format(
            'SELECT array_agg(tile_id ORDER BY distance, tile_id),'
            '       array_agg(distance ORDER BY distance, tile_id)'
            '  FROM (SELECT x.tile_id, x.embedding <=> $1 AS distance FROM %I AS x WHERE true%s'
            '         ORDER BY distance, tile_id LIMIT $2) AS nearest'
            ' WHERE distance < ''NaN''',
            embeddings_name, wanted
        ) INTO found, distances
          USING search_tiles.query, search_tiles.k, search_tiles.label, dataset_ids,
                search_tiles.patient, search_tiles.not_tile, search_tiles.not_patient,
                search_tiles.not_site, candidates;

        RETURN QUERY
        SELECT hit.rank::integer, t.tile_id, hit.distance, place.label, place.dataset, place.path,
               t.patient_id, p.tissue_source_site, s.name, t.slide_id, t.x_px, t.y_px,
               t.width_px, t.height_px, t.mpp, how
          FROM unnest(found, distances) WITH ORDINALITY AS hit (tile_id, distance, rank)
          JOIN tiles AS t ON t.tile_id = hit.tile_id
          LEFT JOIN patients AS p ON p.patient_id = t.patient_id
          LEFT JOIN slides AS s ON s.slide_id = t.slide_id
          -- A tile may be in several data sets; the newest that was asked for speaks, one with a
          -- label before one without.
          LEFT JOIN LATERAL (
                SELECT m.label, d.name AS dataset, m.path
                  FROM dataset_tiles AS m
                  JOIN datasets AS d ON d.dataset_id = m.dataset_id
                 WHERE m.tile_id = hit.tile_id
                   AND (search_tiles.label IS NULL OR m.label = search_tiles.label)
                   AND (dataset_ids IS NULL OR m.dataset_id = ANY (dataset_ids))
                 ORDER BY m.label IS NULL, m.dataset_id DESC
                 LIMIT 1) AS place ON true
         ORDER BY hit.rank;
    END
    $$
    """,
    "COMMENT ON FUNCTION search_tiles IS 'The k tiles nearest to a vector by cosine distance'",
    """
    CREATE FUNCTION similar_tiles(
        tile_id bigint,
        model_version_id bigint,
        k integer DEFAULT 20,
        label text DEFAULT NULL,
        dataset text DEFAULT NULL,
        patient text DEFAULT NULL,
        exclude_same_patient boolean DEFAULT false,
        exclude_same_site boolean DEFAULT false,
        exact boolean DEFAULT false
    ) RETURNS SETOF tile_hit
    LANGUAGE plpgsql STABLE
    AS $$
    #variable_conflict use_column
    DECLARE
        query halfvec;
        query_code halfvec;
        own_patient text;
        own_site text;
    BEGIN
        SELECT e.embedding INTO query
          FROM embeddings AS e
         WHERE e.model_version_id = similar_tiles.model_version_id
           AND e.tile_id = similar_tiles.tile_id;
        IF query IS NULL THEN
            RAISE EXCEPTION 'tile % has no embedding of model version %',
                similar_tiles.tile_id, similar_tiles.model_version_id
                USING ERRCODE = 'no_data_found',
                      HINT = 'The table embeddings lists those that have.';
        END IF;
        SELECT c.code INTO query_code
          FROM search_codes AS c
         WHERE c.model_version_id = similar_tiles.model_version_id
           AND c.tile_id = similar_tiles.tile_id;
        SELECT t.patient_id, p.tissue_source_site INTO own_patient, own_site
          FROM tiles AS t LEFT JOIN patients AS p ON p.patient_id = t.patient_id
         WHERE t.tile_id = similar_tiles.tile_id;
        IF exclude_same_patient AND own_patient IS NULL THEN
            RAISE EXCEPTION 'the patient of tile % is unknown, so its own tiles cannot be left out',
                similar_tiles.tile_id USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF exclude_same_site AND own_site IS NULL THEN
            RAISE EXCEPTION 'the site of tile % is unknown, so its own tiles cannot be left out',
                similar_tiles.tile_id USING ERRCODE = 'invalid_parameter_value';
        END IF;
        RETURN QUERY
        SELECT *
          FROM search_tiles(
                   similar_tiles.model_version_id, query, query_code, similar_tiles.k,
                   similar_tiles.label, similar_tiles.dataset, similar_tiles.patient,
                   similar_tiles.tile_id,
                   CASE WHEN exclude_same_patient THEN own_patient END,
                   CASE WHEN exclude_same_site THEN own_site END,
                   similar_tiles.exact);
    END
    $$
    """,
    "COMMENT ON FUNCTION similar_tiles IS 'The k tiles most like a tile of the store'",
)


def upgrade() -> None:
    op.create_table(
        "retrieval_quality",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "n_tiles",
            sa.BigInteger(),
            nullable=False,
            comment="Embedded tiles of the data set then",
        ),
        sa.Column(
            "n_queries", sa.Integer(), nullable=False, comment="Tiles that were searched with"
        ),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="Seed of the choice of queries"),
        sa.Column(
            "recall_at_10",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Share of the exact ten nearest tiles that search finds, over the whole store",
        ),
        sa.Column(
            "majority_accuracy_at_5",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Share of queries whose five nearest vote for their label; NULL: no labels",
        ),
        sa.Column(
            "map_at_5",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Mean average precision of labels among the five nearest; NULL: no labels",
        ),
        sa.Column(
            "same_site_share",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Share of the five nearest that are of the query's site; NULL: no sites",
        ),
        sa.Column(
            "same_site_by_chance",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="The same share among all tiles of other patients",
        ),
        sa.Column(
            "patients_excluded",
            sa.Boolean(),
            nullable=False,
            comment="True where hits of the query's patient were left out; false: patients unknown",
        ),
        sa.Column(
            "p50_ms",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Median time of a search in milliseconds",
        ),
        sa.Column(
            "p95_ms", sa.DOUBLE_PRECISION(), nullable=False, comment="95th percentile of the same"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint(
            "majority_accuracy_at_5 BETWEEN 0 AND 1",
            name=op.f("ck_retrieval_quality_majority_range"),
        ),
        sa.CheckConstraint("map_at_5 BETWEEN 0 AND 1", name=op.f("ck_retrieval_quality_map_range")),
        sa.CheckConstraint(
            "n_queries > 0 AND n_tiles >= n_queries",
            name=op.f("ck_retrieval_quality_n_queries_range"),
        ),
        sa.CheckConstraint(
            "num_nonnulls(same_site_share, same_site_by_chance) IN (0, 2)",
            name=op.f("ck_retrieval_quality_site_told_whole"),
        ),
        sa.CheckConstraint(
            "p50_ms > 0 AND p95_ms >= p50_ms", name=op.f("ck_retrieval_quality_latency_range")
        ),
        sa.CheckConstraint(
            "recall_at_10 BETWEEN 0 AND 1", name=op.f("ck_retrieval_quality_recall_range")
        ),
        sa.CheckConstraint(
            "same_site_by_chance BETWEEN 0 AND 1",
            name=op.f("ck_retrieval_quality_same_site_chance_range"),
        ),
        sa.CheckConstraint(
            "same_site_share BETWEEN 0 AND 1", name=op.f("ck_retrieval_quality_same_site_range")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_retrieval_quality_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_retrieval_quality_model_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "model_version_id", "dataset_id", name=op.f("pk_retrieval_quality")
        ),
        comment="Retrieval quality: one row a model version and data set",
    )
    op.create_table(
        "search_projections",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "dim", sa.Integer(), nullable=False, comment="Number of features, as in model_versions"
        ),
        sa.Column(
            "code_dim", sa.Integer(), nullable=False, comment="Number of principal components kept"
        ),
        sa.Column(
            "mean",
            sa.LargeBinary(),
            nullable=False,
            comment="Mean of the sample's unit vectors: dim little-endian float32",
        ),
        sa.Column(
            "components",
            sa.LargeBinary(),
            nullable=False,
            comment="code_dim orthonormal rows of dim little-endian float32 each",
        ),
        sa.Column(
            "n_sample", sa.BigInteger(), nullable=False, comment="Embeddings that it was fitted on"
        ),
        sa.Column(
            "n_at_fit", sa.BigInteger(), nullable=False, comment="Embeddings that there were then"
        ),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="Seed of the sample"),
        sa.Column(
            "explained_variance",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Share of the sample's variance that the components keep, 0-1",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint(
            "code_dim BETWEEN 1 AND 256 AND code_dim <= dim",
            name=op.f("ck_search_projections_code_dim_range"),
        ),
        sa.CheckConstraint(
            "explained_variance BETWEEN 0 AND 1",
            name=op.f("ck_search_projections_explained_variance_range"),
        ),
        sa.CheckConstraint(
            "n_sample > 0 AND n_sample <= n_at_fit",
            name=op.f("ck_search_projections_n_sample_range"),
        ),
        sa.CheckConstraint(
            "octet_length(components) = 4 * dim * code_dim",
            name=op.f("ck_search_projections_components_whole"),
        ),
        sa.CheckConstraint(
            "octet_length(mean) = 4 * dim", name=op.f("ck_search_projections_mean_whole")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_search_projections_model_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_version_id", name=op.f("pk_search_projections")),
        comment="One row a model version with search codes; see search_codes",
    )
    op.create_table(
        "search_codes",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "code", HALFVEC(), nullable=False, comment="Projected unit vector, code_dim values"
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id", "tile_id"],
            ["embeddings.model_version_id", "embeddings.tile_id"],
            name="fk_search_codes_embedding",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["search_projections.model_version_id"],
            name=op.f("fk_search_codes_model_version_id_search_projections"),
        ),
        sa.PrimaryKeyConstraint("model_version_id", "tile_id", name=op.f("pk_search_codes")),
        comment="Codes that tiles are found by; one partition a model version, with HNSW",
        postgresql_partition_by="LIST (model_version_id)",
    )
    op.create_table(
        "search_pending",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id", "tile_id"],
            ["embeddings.model_version_id", "embeddings.tile_id"],
            name="fk_search_pending_embedding",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["search_projections.model_version_id"],
            name=op.f("fk_search_pending_model_version_id_search_projections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_version_id", "tile_id", name=op.f("pk_search_pending")),
        comment="Embeddings of indexed model versions that still have no search code",
    )
    op.create_index(op.f("ix_dataset_tiles_label"), "dataset_tiles", ["label"], unique=False)
    for statement in _FUNCTIONS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION similar_tiles")
    op.execute("DROP FUNCTION search_tiles")
    op.execute("DROP TYPE tile_hit")
    # With the triggers on partitions that have codes.
    op.execute("DROP FUNCTION await_search_code() CASCADE")
    op.drop_index(op.f("ix_dataset_tiles_label"), table_name="dataset_tiles")
    op.drop_table("search_pending")
    op.drop_table("search_codes")
    op.drop_table("search_projections")
    op.drop_table("retrieval_quality")
