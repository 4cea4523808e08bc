-- What an encoder's features add to age, sex and stage, gene by gene.
--
-- SELECT encoder, target, clinical_score, combined_score, gain, q FROM study_added_value
--  WHERE study = 'crc5' ORDER BY gain DESC;

CREATE VIEW study_added_value AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       added_value.target,
       added_value.metric,
       added_value.clinical_score,
       added_value.combined_score,
       added_value.gain,
       added_value.null_low,
       added_value.null_high,
       added_value.p,
       added_value.q,
       added_value.n_patients,
       added_value.n_permutations,
       added_value.experiment_id
  FROM added_value
  JOIN experiments USING (experiment_id)
  JOIN experiment_encoders USING (experiment_id, model_version_id)
 WHERE experiments.is_current;

COMMENT ON VIEW study_added_value IS 'What features add to the clinical variables, of what a study shows now';

COMMENT ON COLUMN study_added_value.study IS 'Name of the study';

COMMENT ON COLUMN study_added_value.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN study_added_value.encoder IS 'Name of the encoder in the study';

COMMENT ON COLUMN study_added_value.target IS 'all, a class or a gene';

COMMENT ON COLUMN study_added_value.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN study_added_value.clinical_score IS 'Mean score of age, sex and stage alone';

COMMENT ON COLUMN study_added_value.combined_score IS 'Mean score with the features added';

COMMENT ON COLUMN study_added_value.gain IS 'combined_score - clinical_score';

COMMENT ON COLUMN study_added_value.null_low IS '2.5 % point of the gain by chance';

COMMENT ON COLUMN study_added_value.null_high IS '97.5 % point of the gain by chance';

COMMENT ON COLUMN study_added_value.p IS 'One-sided: how often chance gains as much';

COMMENT ON COLUMN study_added_value.q IS 'Benjamini-Hochberg over the encoder''s genes';

COMMENT ON COLUMN study_added_value.n_patients IS 'Patients with a value and clinical data';

COMMENT ON COLUMN study_added_value.n_permutations IS 'Permutations of the features'' rows';

COMMENT ON COLUMN study_added_value.experiment_id IS 'Key of experiments';
