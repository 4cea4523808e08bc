-- Two encoders against each other, with the study's name, of what the study shows now.
--
-- SELECT encoder_a, encoder_b, difference, ci_low, ci_high, test, p, p_naive FROM study_comparisons
--  WHERE study = 'crc5' AND target = 'all' AND metric = 'accuracy';

CREATE VIEW study_comparisons AS
SELECT experiments.study,
       experiments.task,
       comparisons.target,
       comparisons.metric,
       comparisons.encoder_a,
       comparisons.encoder_b,
       comparisons.mean_a,
       comparisons.mean_b,
       comparisons.difference,
       comparisons.ci_low,
       comparisons.ci_high,
       comparisons.test,
       comparisons.p,
       comparisons.q,
       comparisons.p_holm,
       comparisons.p_corrected,
       comparisons.p_naive,
       comparisons.rope,
       comparisons.p_a_better,
       comparisons.p_equivalent,
       comparisons.p_b_better,
       comparisons.n_splits,
       comparisons.leakage_checked,
       comparisons.leakage_note,
       comparisons.experiment_id
  FROM comparisons
  JOIN experiments USING (experiment_id)
 WHERE experiments.is_current;

COMMENT ON VIEW study_comparisons IS 'Paired comparisons of encoders, of what a study shows now';

COMMENT ON COLUMN study_comparisons.study IS 'Name of the study';

COMMENT ON COLUMN study_comparisons.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN study_comparisons.target IS 'all, a class or a gene';

COMMENT ON COLUMN study_comparisons.metric IS 'accuracy, recall, macro_auroc, … of tissue; pearson_r, r_squared of expression; auroc, auprc, brier of mutation';

COMMENT ON COLUMN study_comparisons.encoder_a IS 'Name of the first encoder in the study';

COMMENT ON COLUMN study_comparisons.encoder_b IS 'Name of the second encoder in the study';

COMMENT ON COLUMN study_comparisons.mean_a IS 'Mean of encoder_a over the splits, in the metric''s unit';

COMMENT ON COLUMN study_comparisons.mean_b IS 'Mean of encoder_b over the splits, in the metric''s unit';

COMMENT ON COLUMN study_comparisons.difference IS 'mean_b - mean_a, in the metric''s unit';

COMMENT ON COLUMN study_comparisons.ci_low IS 'Lower end of the 95 % interval of the test, in the metric''s unit';

COMMENT ON COLUMN study_comparisons.ci_high IS 'Upper end of the 95 % interval of the test, in the metric''s unit';

COMMENT ON COLUMN study_comparisons.test IS 'The test reported: corrected_t, or jackknife (others: study_tests)';

COMMENT ON COLUMN study_comparisons.p IS 'Two-sided p-value of that test, 0-1';

COMMENT ON COLUMN study_comparisons.q IS 'Benjamini-Hochberg of p over the genes of the pair and metric; NULL where there is one question only';

COMMENT ON COLUMN study_comparisons.p_holm IS 'Holm of p over the pairs of encoders of the target and metric';

COMMENT ON COLUMN study_comparisons.p_corrected IS 'Two-sided p-value of the corrected resampled t-test, 0-1';

COMMENT ON COLUMN study_comparisons.p_naive IS 'Two-sided p-value of splits taken as independent, 0-1: far too small';

COMMENT ON COLUMN study_comparisons.rope IS 'Differences up to this size count as equivalent; NULL if not computed yet';

COMMENT ON COLUMN study_comparisons.p_a_better IS 'Posterior probability that A is better by more than rope';

COMMENT ON COLUMN study_comparisons.p_equivalent IS 'Posterior probability of a difference within rope';

COMMENT ON COLUMN study_comparisons.p_b_better IS 'Posterior probability that B is better by more than rope';

COMMENT ON COLUMN study_comparisons.n_splits IS 'Splits on which both have the metric';

COMMENT ON COLUMN study_comparisons.leakage_checked IS 'True where folds kept every patient whole';

COMMENT ON COLUMN study_comparisons.leakage_note IS 'Why that was not checked; empty where it was';

COMMENT ON COLUMN study_comparisons.experiment_id IS 'Key of experiments';
