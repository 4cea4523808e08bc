-- The views of migration 0010 as they were then; as they are now they stand in featurestore/views.

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
