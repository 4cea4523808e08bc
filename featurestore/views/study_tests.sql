-- Further tests of the comparisons that a study shows: jackknife, patient bootstrap, DeLong's.
--
-- SELECT target, test, difference, ci_low, ci_high, p FROM study_tests
--  WHERE study = 'crc5' ORDER BY target, test;

CREATE VIEW study_tests AS
SELECT experiments.study,
       experiments.task,
       comparison_tests.target,
       comparison_tests.metric,
       comparison_tests.encoder_a,
       comparison_tests.encoder_b,
       comparison_tests.test,
       comparison_tests.difference,
       comparison_tests.standard_error,
       comparison_tests.ci_low,
       comparison_tests.ci_high,
       comparison_tests.p,
       comparison_tests.n_patients,
       comparison_tests.variance_tested,
       comparison_tests.variance_pairs,
       comparison_tests.experiment_id
  FROM comparison_tests
  JOIN experiments USING (experiment_id)
 WHERE experiments.is_current;

COMMENT ON VIEW study_tests IS 'Further tests of the comparisons that a study shows now';

COMMENT ON COLUMN study_tests.study IS 'Name of the study';

COMMENT ON COLUMN study_tests.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN study_tests.target IS 'all, a class or a gene';

COMMENT ON COLUMN study_tests.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN study_tests.encoder_a IS 'Name of the first encoder in the study';

COMMENT ON COLUMN study_tests.encoder_b IS 'Name of the second encoder in the study';

COMMENT ON COLUMN study_tests.test IS 'jackknife, bootstrap or delong';

COMMENT ON COLUMN study_tests.difference IS 'B minus A, as this test takes it';

COMMENT ON COLUMN study_tests.standard_error IS 'Of the difference';

COMMENT ON COLUMN study_tests.ci_low IS 'Lower end of the 95 % interval';

COMMENT ON COLUMN study_tests.ci_high IS 'Upper end of the 95 % interval';

COMMENT ON COLUMN study_tests.p IS 'Two-sided';

COMMENT ON COLUMN study_tests.n_patients IS 'Patients that it rests on';

COMMENT ON COLUMN study_tests.variance_tested IS 'Jackknife variance over who is tested; NULL of other tests';

COMMENT ON COLUMN study_tests.variance_pairs IS 'Variance of pairs of one tested and one trained on, of which the jackknife''s error has half; NULL of other tests';

COMMENT ON COLUMN study_tests.experiment_id IS 'Key of experiments';
