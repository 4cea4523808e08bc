-- Scores of every split, with names, of what a study shows now.
--
-- SELECT encoder, avg(value) FROM split_scores
--  WHERE study = 'crc5' AND target = 'all' AND metric = 'accuracy' GROUP BY encoder;

CREATE VIEW split_scores AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       cv_scores.target,
       cv_scores.metric,
       cv_scores.repeat,
       cv_scores.fold,
       cv_scores.value,
       cv_scores.n_train,
       cv_scores.n_test,
       cv_scores.experiment_id,
       cv_scores.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN cv_scores USING (experiment_id, model_version_id)
 WHERE experiments.is_current;

COMMENT ON VIEW split_scores IS 'Scores per split with names, of what a study shows now';

COMMENT ON COLUMN split_scores.study IS 'Name of the study';

COMMENT ON COLUMN split_scores.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN split_scores.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN split_scores.target IS 'all, a class or a gene';

COMMENT ON COLUMN split_scores.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN split_scores.repeat IS 'Repeat of the cross-validation, from 0';

COMMENT ON COLUMN split_scores.fold IS 'Test fold, from 0 within the repeat';

COMMENT ON COLUMN split_scores.value IS 'The score in the metric''s own unit: shares and areas 0-1, correlations -1 to 1; NULL where undefined';

COMMENT ON COLUMN split_scores.n_train IS 'Training tiles or patients of the split';

COMMENT ON COLUMN split_scores.n_test IS 'Test tiles or patients of the split';

COMMENT ON COLUMN split_scores.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN split_scores.model_version_id IS 'Key of model_versions';
