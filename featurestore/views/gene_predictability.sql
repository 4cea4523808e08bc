-- Which genes an encoder predicts at all, by a permutation test, of what a study shows now.
--
-- SELECT gene, r, q FROM gene_predictability
--  WHERE study = 'luad' AND encoder = 'ftx-2048' AND is_predictable ORDER BY r DESC;

CREATE VIEW gene_predictability AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       predictability.target AS gene,
       predictability.q < 0.05 AS is_predictable,
       predictability.r,
       predictability.null_mean,
       predictability.null_sd,
       predictability.p,
       predictability.q,
       predictability.n_permutations,
       predictability.experiment_id,
       predictability.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN predictability USING (experiment_id, model_version_id)
 WHERE experiments.is_current;

COMMENT ON VIEW gene_predictability IS 'Whether an encoder predicts a gene at all, of what a study shows now';

COMMENT ON COLUMN gene_predictability.study IS 'Name of the study';

COMMENT ON COLUMN gene_predictability.task IS 'expression (mutations have no permutation test)';

COMMENT ON COLUMN gene_predictability.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN gene_predictability.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN gene_predictability.is_predictable IS 'Whether q < 0.05';

COMMENT ON COLUMN gene_predictability.r IS 'Mean Pearson correlation within test folds, -1 to 1';

COMMENT ON COLUMN gene_predictability.null_mean IS 'The same under permuted patients: mean, -1 to 1';

COMMENT ON COLUMN gene_predictability.null_sd IS 'The same under permuted patients: standard deviation';

COMMENT ON COLUMN gene_predictability.p IS 'One-sided p-value of the permutations, 0-1, uncorrected';

COMMENT ON COLUMN gene_predictability.q IS 'Benjamini-Hochberg of p over the encoder''s genes, 0-1';

COMMENT ON COLUMN gene_predictability.n_permutations IS 'Number of permutations';

COMMENT ON COLUMN gene_predictability.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN gene_predictability.model_version_id IS 'Key of model_versions';
