-- Average ranks of three or more encoders over the targets of a task; 1 is the best.
--
-- SELECT task, encoder, mean_rank, critical_difference FROM study_encoder_ranks
--  WHERE study = 'crc5' ORDER BY task, mean_rank;

CREATE VIEW study_encoder_ranks AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       encoder_ranks.metric,
       encoder_ranks.mean_rank,
       encoder_ranks.mean_score,
       encoder_ranks.critical_difference,
       encoder_ranks.p_f,
       encoder_ranks.n_targets,
       encoder_ranks.experiment_id
  FROM encoder_ranks
  JOIN experiments USING (experiment_id)
  JOIN experiment_encoders USING (experiment_id, model_version_id)
 WHERE experiments.is_current;

COMMENT ON VIEW study_encoder_ranks IS 'Average ranks of encoders, of what a study shows now';

COMMENT ON COLUMN study_encoder_ranks.study IS 'Name of the study';

COMMENT ON COLUMN study_encoder_ranks.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN study_encoder_ranks.encoder IS 'Name of the encoder in the study';

COMMENT ON COLUMN study_encoder_ranks.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN study_encoder_ranks.mean_rank IS 'Over the targets; 1 is the best';

COMMENT ON COLUMN study_encoder_ranks.mean_score IS 'Over the targets, in the metric''s unit';

COMMENT ON COLUMN study_encoder_ranks.critical_difference IS 'Encoders whose ranks differ by less cannot be told apart (Nemenyi, 0.05)';

COMMENT ON COLUMN study_encoder_ranks.p_f IS 'Iman and Davenport''s p that all rank alike; too small over genes of one cohort';

COMMENT ON COLUMN study_encoder_ranks.n_targets IS 'Targets ranked';

COMMENT ON COLUMN study_encoder_ranks.experiment_id IS 'Key of experiments';
