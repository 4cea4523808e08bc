-- What random folds add to a score, against folds that keep patients or sites whole.
--
-- SELECT encoder, target, random_score, kept_score, optimism FROM study_fold_optimism
--  WHERE study = 'crc5' ORDER BY optimism DESC;

CREATE VIEW study_fold_optimism AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       fold_optimism.target,
       fold_optimism.metric,
       fold_optimism.kept,
       fold_optimism.random_score,
       fold_optimism.kept_score,
       fold_optimism.optimism,
       fold_optimism.n_repeats,
       fold_optimism.experiment_id
  FROM fold_optimism
  JOIN experiments USING (experiment_id)
  JOIN experiment_encoders USING (experiment_id, model_version_id)
 WHERE experiments.is_current;

COMMENT ON VIEW study_fold_optimism IS 'Random folds beside folds that keep groups whole, of what a study shows now';

COMMENT ON COLUMN study_fold_optimism.study IS 'Name of the study';

COMMENT ON COLUMN study_fold_optimism.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN study_fold_optimism.encoder IS 'Name of the encoder in the study';

COMMENT ON COLUMN study_fold_optimism.target IS 'all, a class or a gene';

COMMENT ON COLUMN study_fold_optimism.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN study_fold_optimism.kept IS 'What the second kind of folds keeps whole: patient or site';

COMMENT ON COLUMN study_fold_optimism.random_score IS 'Mean score under random folds';

COMMENT ON COLUMN study_fold_optimism.kept_score IS 'Mean score with groups kept whole';

COMMENT ON COLUMN study_fold_optimism.optimism IS 'random_score - kept_score: what random folds add';

COMMENT ON COLUMN study_fold_optimism.n_repeats IS 'Repeats of the kind of folds that the experiment itself does not use';

COMMENT ON COLUMN study_fold_optimism.experiment_id IS 'Key of experiments';
