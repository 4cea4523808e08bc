-- What a comparison rests on, one row a comparison and encoder: settings, seed, Dagster run, weights,
-- data set, table of genes. The tiles are in experiment_tiles, earlier weights in model_lineage.
--
-- SELECT side, encoder, weights_sha256, dataset_sha256, dagster_run_id FROM comparison_provenance
--  WHERE study = 'crc5' AND target = 'all' AND metric = 'accuracy' AND is_current;

CREATE VIEW comparison_provenance AS
SELECT experiments.study,
       comparisons.task,
       comparisons.target,
       comparisons.metric,
       comparisons.encoder_a,
       comparisons.encoder_b,
       comparisons.difference,
       comparisons.p_corrected,
       CASE experiment_encoders.encoder WHEN comparisons.encoder_a THEN 'a' ELSE 'b' END AS side,
       experiment_encoders.encoder,
       experiment_encoders.n_not_converged,
       model_versions.network,
       model_versions.weights_sha256,
       model_versions.weights_source,
       model_versions.trained_on,
       model_versions.trained_on_digest,
       model_versions.training,
       model_versions.sha256 AS model_version_sha256,
       datasets.name AS dataset,
       datasets.root AS dataset_root,
       datasets.digest AS dataset_sha256,
       datasets.n_tiles,
       tables.name AS gene_table,
       tables.digest AS gene_table_sha256,
       experiments.seed,
       experiments.n_folds,
       experiments.n_repeats,
       experiments.settings,
       experiments.dagster_run_id,
       experiments.created_at AS computed_at,
       experiments.is_current,
       experiments.digest AS experiment_sha256,
       comparisons.experiment_id,
       experiment_encoders.model_version_id,
       datasets.dataset_id
  FROM comparisons
  JOIN experiments USING (experiment_id)
  JOIN experiment_encoders
    ON experiment_encoders.experiment_id = comparisons.experiment_id
   AND experiment_encoders.encoder IN (comparisons.encoder_a, comparisons.encoder_b)
  JOIN model_versions USING (model_version_id)
  JOIN datasets ON datasets.digest = experiments.dataset_digest
  LEFT JOIN molecular_sources AS tables ON tables.digest = experiments.settings ->> 'source';

COMMENT ON VIEW comparison_provenance IS 'What a comparison rests on, one row a comparison and encoder; earlier results included';

COMMENT ON COLUMN comparison_provenance.study IS 'Name of the study';

COMMENT ON COLUMN comparison_provenance.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN comparison_provenance.target IS 'all, a class or a gene';

COMMENT ON COLUMN comparison_provenance.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN comparison_provenance.encoder_a IS 'Name of the first encoder in the study';

COMMENT ON COLUMN comparison_provenance.encoder_b IS 'Name of the second encoder in the study';

COMMENT ON COLUMN comparison_provenance.difference IS 'mean_b - mean_a, in the metric''s unit';

COMMENT ON COLUMN comparison_provenance.p_corrected IS 'Two-sided p-value of the corrected resampled t-test, 0-1';

COMMENT ON COLUMN comparison_provenance.side IS 'a or b: which of the two this row is about';

COMMENT ON COLUMN comparison_provenance.encoder IS 'Name of that encoder in the study';

COMMENT ON COLUMN comparison_provenance.n_not_converged IS 'Splits whose estimator stopped before it converged';

COMMENT ON COLUMN comparison_provenance.network IS 'timm name, or colour.* and clinical.* baselines';

COMMENT ON COLUMN comparison_provenance.weights_sha256 IS 'SHA-256 over the weight tensors; NULL for baselines without weights';

COMMENT ON COLUMN comparison_provenance.weights_source IS 'Where the weights came from';

COMMENT ON COLUMN comparison_provenance.trained_on IS 'Training data in words';

COMMENT ON COLUMN comparison_provenance.trained_on_digest IS 'Digest of the data set of this store that it was fine-tuned on; NULL where none';

COMMENT ON COLUMN comparison_provenance.training IS 'Settings of the fine-tuning, seed included; NULL where none';

COMMENT ON COLUMN comparison_provenance.model_version_sha256 IS 'Digest of everything that can change a feature''s value';

COMMENT ON COLUMN comparison_provenance.dataset IS 'Name of the data set that was evaluated';

COMMENT ON COLUMN comparison_provenance.dataset_root IS 'Folder where its files were last seen';

COMMENT ON COLUMN comparison_provenance.dataset_sha256 IS 'Digest of every tile, label and patient in it';

COMMENT ON COLUMN comparison_provenance.n_tiles IS 'Tiles in the data set';

COMMENT ON COLUMN comparison_provenance.gene_table IS 'Name of the molecular table; NULL for tissue';

COMMENT ON COLUMN comparison_provenance.gene_table_sha256 IS 'Digest of the values in it; NULL for tissue';

COMMENT ON COLUMN comparison_provenance.seed IS 'Seed of the splits';

COMMENT ON COLUMN comparison_provenance.n_folds IS 'Folds a repeat';

COMMENT ON COLUMN comparison_provenance.n_repeats IS 'Repeats of the cross-validation';

COMMENT ON COLUMN comparison_provenance.settings IS 'Everything else that was set';

COMMENT ON COLUMN comparison_provenance.dagster_run_id IS 'Dagster run that computed it; NULL from a notebook';

COMMENT ON COLUMN comparison_provenance.computed_at IS 'When it was computed';

COMMENT ON COLUMN comparison_provenance.is_current IS 'True for what the study shows now';

COMMENT ON COLUMN comparison_provenance.experiment_sha256 IS 'Digest of study, task, settings, data set and model versions';

COMMENT ON COLUMN comparison_provenance.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN comparison_provenance.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN comparison_provenance.dataset_id IS 'Key of datasets';
