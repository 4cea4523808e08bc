-- Out-of-fold predictions of tissue, one row a tile, encoder and repeat, of what a study shows now.
--
-- SELECT encoder, observed_class, avg(is_correct::integer) AS recall FROM tissue_predictions
--  WHERE study = 'crc5' GROUP BY encoder, observed_class;

CREATE VIEW tissue_predictions AS
SELECT experiments.study,
       experiment_encoders.encoder,
       cv_predictions.tile_id,
       tiles.patient_id,
       cv_predictions.repeat,
       cv_predictions.fold,
       experiments.classes[cv_predictions.observed::integer + 1] AS observed_class,
       experiments.classes[cv_predictions.predicted::integer + 1] AS predicted_class,
       cv_predictions.observed = cv_predictions.predicted AS is_correct,
       cv_predictions.probabilities[cv_predictions.observed::integer + 1] AS p_observed_class,
       cv_predictions.probabilities[cv_predictions.predicted::integer + 1] AS p_predicted_class,
       experiments.classes,
       cv_predictions.probabilities,
       cv_predictions.experiment_id,
       cv_predictions.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN cv_predictions USING (experiment_id, model_version_id)
  LEFT JOIN tiles USING (tile_id)
 WHERE experiments.task = 'tissue'
   AND experiments.is_current;

COMMENT ON VIEW tissue_predictions IS 'Out-of-fold predictions of tissue, one row a tile, encoder and repeat, of what a study shows now';

COMMENT ON COLUMN tissue_predictions.study IS 'Name of the study';

COMMENT ON COLUMN tissue_predictions.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN tissue_predictions.tile_id IS 'Key of tiles';

COMMENT ON COLUMN tissue_predictions.patient_id IS 'The source''s own patient identifier; NULL where the source names none';

COMMENT ON COLUMN tissue_predictions.repeat IS 'Repeat of the cross-validation, from 0';

COMMENT ON COLUMN tissue_predictions.fold IS 'Fold that held it out, from 0 within the repeat';

COMMENT ON COLUMN tissue_predictions.observed_class IS 'Class as annotated';

COMMENT ON COLUMN tissue_predictions.predicted_class IS 'Most probable class';

COMMENT ON COLUMN tissue_predictions.is_correct IS 'Whether the two are the same';

COMMENT ON COLUMN tissue_predictions.p_observed_class IS 'Predicted probability of the annotated class, 0-1';

COMMENT ON COLUMN tissue_predictions.p_predicted_class IS 'Predicted probability of the predicted class, 0-1';

COMMENT ON COLUMN tissue_predictions.classes IS 'Class names, in the order of probabilities';

COMMENT ON COLUMN tissue_predictions.probabilities IS 'Predicted probability of each class, 0-1, in the order of classes';

COMMENT ON COLUMN tissue_predictions.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN tissue_predictions.model_version_id IS 'Key of model_versions';
