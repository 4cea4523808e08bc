-- Two encoders among the patients of each stratum: by site, stage, sex and other clinical columns.
--
-- SELECT variable, stratum, target, difference, ci_low, ci_high FROM study_strata
--  WHERE study = 'crc5' ORDER BY variable, stratum, target;

CREATE VIEW study_strata AS
SELECT experiments.study,
       experiments.task,
       stratum_differences.target,
       stratum_differences.metric,
       stratum_differences.encoder_a,
       stratum_differences.encoder_b,
       stratum_differences.variable,
       stratum_differences.stratum,
       stratum_differences.n_patients,
       stratum_differences.mean_a,
       stratum_differences.mean_b,
       stratum_differences.difference,
       stratum_differences.ci_low,
       stratum_differences.ci_high,
       stratum_differences.p,
       stratum_differences.p_holm,
       stratum_differences.experiment_id
  FROM stratum_differences
  JOIN experiments USING (experiment_id)
 WHERE experiments.is_current;

COMMENT ON VIEW study_strata IS 'Differences of encoders by clinical strata, of what a study shows now';

COMMENT ON COLUMN study_strata.study IS 'Name of the study';

COMMENT ON COLUMN study_strata.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN study_strata.target IS 'all, a class or a gene';

COMMENT ON COLUMN study_strata.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN study_strata.encoder_a IS 'Name of the first encoder in the study';

COMMENT ON COLUMN study_strata.encoder_b IS 'Name of the second encoder in the study';

COMMENT ON COLUMN study_strata.variable IS 'Clinical column, or site';

COMMENT ON COLUMN study_strata.stratum IS 'Value of the column';

COMMENT ON COLUMN study_strata.n_patients IS 'Patients in the stratum';

COMMENT ON COLUMN study_strata.mean_a IS 'Score of encoder_a among them';

COMMENT ON COLUMN study_strata.mean_b IS 'Score of encoder_b among them';

COMMENT ON COLUMN study_strata.difference IS 'mean_b - mean_a';

COMMENT ON COLUMN study_strata.ci_low IS 'Lower end of the 95 % bootstrap interval';

COMMENT ON COLUMN study_strata.ci_high IS 'Upper end of the 95 % bootstrap interval';

COMMENT ON COLUMN study_strata.p IS 'Two-sided, patient bootstrap';

COMMENT ON COLUMN study_strata.p_holm IS 'Holm over the strata of the column';

COMMENT ON COLUMN study_strata.experiment_id IS 'Key of experiments';
