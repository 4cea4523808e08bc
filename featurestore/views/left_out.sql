-- What was left out of a study, each item and reason once, however many runs met it.
--
-- The ledger is never tidied: what was mended since is still in it, with the time it was last met.
--
-- SELECT stage, reason_pattern, count(*) FROM left_out WHERE study = 'luad'
--  GROUP BY stage, reason_pattern ORDER BY count(*) DESC;

CREATE VIEW left_out AS
SELECT rejects.study,
       rejects.stage,
       CASE WHEN rejects.item ~ '@[0-9]+,[0-9]+$' THEN 'tile'
            WHEN rejects.item ~* '[.](bif|bmp|dcm|jpe?g|mrxs|ndpi|png|scn|svs|svslide|tiff?|vms|vmu|webp)$'
            THEN 'file'
            WHEN patients.patient_id IS NOT NULL THEN 'patient'
            ELSE 'other'
       END AS kind,
       rejects.item,
       regexp_replace(rejects.item, '@[0-9]+,[0-9]+$', '') AS file,
       rejects.reason,
       regexp_replace(
           split_part(rejects.reason, ';', 1), '[0-9]+([.][0-9]+)?', '#', 'g'
       ) AS reason_pattern,
       count(*) AS n_runs,
       min(rejects.created_at) AS first_at,
       max(rejects.created_at) AS last_at,
       (array_agg(rejects.run_id ORDER BY rejects.created_at DESC))[1] AS last_run_id
  FROM rejects
  LEFT JOIN patients ON patients.patient_id = rejects.item
 GROUP BY rejects.study, rejects.stage, rejects.item, rejects.reason, patients.patient_id;

COMMENT ON VIEW left_out IS 'What was left out, each item and reason once: at which stage and why';

COMMENT ON COLUMN left_out.study IS 'Name of the study';

COMMENT ON COLUMN left_out.stage IS 'ingest, tile, embed, cohort, …: where in the way of the data';

COMMENT ON COLUMN left_out.kind IS 'tile (a place on a slide), file (a slide, or a tile that is a file), patient, or other (a gene, sample or table)';

COMMENT ON COLUMN left_out.item IS 'File, tile (file@x,y in pixels of level 0), patient, gene or table';

COMMENT ON COLUMN left_out.file IS 'The item without its place: the slide of a tile';

COMMENT ON COLUMN left_out.reason IS 'Why, and what to do about it';

COMMENT ON COLUMN left_out.reason_pattern IS 'The reason up to its first semicolon, numbers as #: to count by';

COMMENT ON COLUMN left_out.n_runs IS 'Times it was met';

COMMENT ON COLUMN left_out.first_at IS 'When it was first met';

COMMENT ON COLUMN left_out.last_at IS 'When it was last met';

COMMENT ON COLUMN left_out.last_run_id IS 'Dagster run that last met it; NULL from a notebook';
