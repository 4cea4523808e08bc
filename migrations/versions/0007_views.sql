-- The views of migration 0007 as they were then; as they are now they stand in featurestore/views.

CREATE VIEW study_models AS
SELECT study_encoders.study,
       study_encoders.encoder,
       model_versions.network,
       model_versions.dim,
       model_versions.input_px,
       model_versions.mpp,
       model_versions.precision,
       model_versions.weights_sha256,
       model_versions.weights_source,
       model_versions.trained_on,
       parents.sha256 AS parent_sha256,
       model_versions.sha256 AS model_version_sha256,
       study_encoders.model_version_id,
       study_encoders.updated_at
  FROM study_encoders
  JOIN model_versions USING (model_version_id)
  LEFT JOIN model_versions AS parents ON parents.model_version_id = model_versions.parent_id;

COMMENT ON VIEW study_models IS 'The model versions that a study''s encoder names stand for now';

COMMENT ON COLUMN study_models.study IS 'Name of the study';

COMMENT ON COLUMN study_models.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN study_models.network IS 'timm name, or colour.* and clinical.* baselines';

COMMENT ON COLUMN study_models.dim IS 'Number of features';

COMMENT ON COLUMN study_models.input_px IS 'Side of the network''s input in pixels';

COMMENT ON COLUMN study_models.mpp IS 'Resolution the encoder is meant for, in µm per input pixel; NULL for any';

COMMENT ON COLUMN study_models.precision IS 'Number format of the computation';

COMMENT ON COLUMN study_models.weights_sha256 IS 'SHA-256 over the weight tensors; NULL for baselines without weights';

COMMENT ON COLUMN study_models.weights_source IS 'Where the weights came from';

COMMENT ON COLUMN study_models.trained_on IS 'Training data in words';

COMMENT ON COLUMN study_models.parent_sha256 IS 'Digest of the version that fine-tuning started from; NULL where none';

COMMENT ON COLUMN study_models.model_version_sha256 IS 'Digest of everything that can change a feature''s value';

COMMENT ON COLUMN study_models.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN study_models.updated_at IS 'When the name last came to stand for this version';

CREATE VIEW study_tiles AS
SELECT study_datasets.study,
       study_datasets.asset AS source,
       dataset_tiles.tile_id,
       dataset_tiles.label,
       tiles.patient_id,
       patients.tissue_source_site,
       dataset_tiles.path AS file,
       slides.name AS slide,
       tiles.x_px,
       tiles.y_px,
       tiles.width_px,
       tiles.height_px,
       tiles.mpp,
       tiles.stain,
       tiles.sha256 AS tile_sha256,
       slides.sha256 AS slide_sha256,
       study_datasets.dataset_id
  FROM study_datasets
  JOIN dataset_tiles USING (dataset_id)
  JOIN tiles USING (tile_id)
  LEFT JOIN slides ON slides.slide_id = tiles.slide_id
  LEFT JOIN patients ON patients.patient_id = tiles.patient_id;

COMMENT ON VIEW study_tiles IS 'Tiles of a study''s sources as they were last read';

COMMENT ON COLUMN study_tiles.study IS 'Name of the study';

COMMENT ON COLUMN study_tiles.source IS 'Source asset: finetune_tiles, tissue_tiles, slide_tiles, tumour_tiles or imported_tiles/ENCODER';

COMMENT ON COLUMN study_tiles.tile_id IS 'Key of tiles';

COMMENT ON COLUMN study_tiles.label IS 'Class as annotated in this data set; NULL where none is';

COMMENT ON COLUMN study_tiles.patient_id IS 'The source''s own patient identifier; NULL where the source names none';

COMMENT ON COLUMN study_tiles.tissue_source_site IS 'Hospital or biobank that gave the tissue; NULL where unknown';

COMMENT ON COLUMN study_tiles.file IS 'File of the tile, or of its slide, relative to the data set''s folder';

COMMENT ON COLUMN study_tiles.slide IS 'File name of the slide; NULL for a tile that is a file';

COMMENT ON COLUMN study_tiles.x_px IS 'Left edge in pixels of the slide''s level 0; NULL for a tile that is a file';

COMMENT ON COLUMN study_tiles.y_px IS 'Top edge in pixels of the slide''s level 0; NULL for a tile that is a file';

COMMENT ON COLUMN study_tiles.width_px IS 'Width of the tile in pixels';

COMMENT ON COLUMN study_tiles.height_px IS 'Height of the tile in pixels';

COMMENT ON COLUMN study_tiles.mpp IS 'Resolution of the tile in µm per pixel; NULL where the source tells none';

COMMENT ON COLUMN study_tiles.stain IS 'Stain normalisation before embedding: none or macenko';

COMMENT ON COLUMN study_tiles.tile_sha256 IS 'SHA-256 of the tile: over its pixels, or over slide, place, size, mpp and stain';

COMMENT ON COLUMN study_tiles.slide_sha256 IS 'SHA-256 of the slide file''s bytes; NULL for a tile that is a file';

COMMENT ON COLUMN study_tiles.dataset_id IS 'Key of datasets';

CREATE VIEW study_slides AS
SELECT study_datasets.study,
       study_encoders.encoder,
       dataset_tiles.path AS file,
       slides.name AS slide,
       slides.patient_id,
       patients.tissue_source_site,
       slides.mpp,
       slides.mpp_source,
       slides.width_px,
       slides.height_px,
       count(*) AS n_tiles,
       count(embeddings.tile_id) AS n_embedded,
       slides.sha256 AS slide_sha256,
       slides.slide_id,
       study_datasets.dataset_id,
       study_encoders.model_version_id
  FROM study_datasets
  JOIN dataset_tiles USING (dataset_id)
  JOIN tiles USING (tile_id)
  JOIN slides USING (slide_id)
  JOIN patients ON patients.patient_id = slides.patient_id
  LEFT JOIN study_encoders ON study_encoders.study = study_datasets.study
  LEFT JOIN embeddings
         ON embeddings.model_version_id = study_encoders.model_version_id
        AND embeddings.tile_id = tiles.tile_id
 GROUP BY study_datasets.study,
          study_encoders.encoder,
          dataset_tiles.path,
          slides.slide_id,
          patients.patient_id,
          study_datasets.dataset_id,
          study_encoders.model_version_id;

COMMENT ON VIEW study_slides IS 'Slides of a study, one row an encoder: tiles, and tiles with features';

COMMENT ON COLUMN study_slides.study IS 'Name of the study';

COMMENT ON COLUMN study_slides.encoder IS 'The encoder''s name in the study; NULL where none is registered yet';

COMMENT ON COLUMN study_slides.file IS 'File of the slide, relative to the data set''s folder';

COMMENT ON COLUMN study_slides.slide IS 'File name of the slide';

COMMENT ON COLUMN study_slides.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN study_slides.tissue_source_site IS 'Hospital or biobank that gave the tissue; NULL where unknown';

COMMENT ON COLUMN study_slides.mpp IS 'Resolution of level 0 in µm per pixel';

COMMENT ON COLUMN study_slides.mpp_source IS 'slide: read from the file; study: given in the study file';

COMMENT ON COLUMN study_slides.width_px IS 'Width of level 0 in pixels';

COMMENT ON COLUMN study_slides.height_px IS 'Height of level 0 in pixels';

COMMENT ON COLUMN study_slides.n_tiles IS 'Tiles that the slide was cut into';

COMMENT ON COLUMN study_slides.n_embedded IS 'Those of them with features of this encoder';

COMMENT ON COLUMN study_slides.slide_sha256 IS 'SHA-256 of the file''s bytes';

COMMENT ON COLUMN study_slides.slide_id IS 'Key of slides';

COMMENT ON COLUMN study_slides.dataset_id IS 'Key of datasets';

COMMENT ON COLUMN study_slides.model_version_id IS 'Key of model_versions';

CREATE VIEW study_patient_genes AS
SELECT study_encoders.study,
       study_encoders.encoder,
       patient_genes.patient_id,
       patient_genes.tissue_source_site,
       patient_genes.gene,
       patient_genes.expression,
       CASE WHEN starts_with(tables.unit, 'log2(') THEN tables.unit
            ELSE 'log2(' || tables.unit || '+1)'
       END AS expression_unit,
       patient_genes.mutated,
       patient_genes.features,
       patient_genes.n_tiles,
       patient_genes.n_slides,
       patient_genes.model_version_id,
       patient_genes.dataset_id,
       patient_genes.expression_source_id,
       patient_genes.mutation_source_id
  FROM study_encoders
  JOIN patient_genes USING (model_version_id)
  LEFT JOIN molecular_sources AS tables ON tables.source_id = patient_genes.expression_source_id
 WHERE EXISTS (SELECT 1
                 FROM study_datasets
                WHERE study_datasets.study = study_encoders.study
                  AND study_datasets.dataset_id = patient_genes.dataset_id);

COMMENT ON VIEW study_patient_genes IS 'Patients of a study with their features and any gene''s expression and mutation';

COMMENT ON COLUMN study_patient_genes.study IS 'Name of the study';

COMMENT ON COLUMN study_patient_genes.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN study_patient_genes.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN study_patient_genes.tissue_source_site IS 'Hospital or biobank that gave the tissue; NULL where unknown';

COMMENT ON COLUMN study_patient_genes.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN study_patient_genes.expression IS 'In expression_unit; NULL where not measured';

COMMENT ON COLUMN study_patient_genes.expression_unit IS 'Unit of expression, such as log2(FPKM+1); NULL where not measured';

COMMENT ON COLUMN study_patient_genes.mutated IS 'At least one non-silent variant; NULL where not sequenced';

COMMENT ON COLUMN study_patient_genes.features IS 'Mean over the patient''s tiles, dimensionless';

COMMENT ON COLUMN study_patient_genes.n_tiles IS 'Tiles that were pooled';

COMMENT ON COLUMN study_patient_genes.n_slides IS 'Slides (or images) that they come from';

COMMENT ON COLUMN study_patient_genes.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN study_patient_genes.dataset_id IS 'Key of datasets';

COMMENT ON COLUMN study_patient_genes.expression_source_id IS 'Key of molecular_sources: the table of expression';

COMMENT ON COLUMN study_patient_genes.mutation_source_id IS 'Key of molecular_sources: the table of mutations';

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

CREATE VIEW gene_predictions AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       cv_gene_predictions.target AS gene,
       cv_gene_predictions.patient_id,
       patients.tissue_source_site,
       (repeats.position - 1)::smallint AS repeat,
       repeats.fold,
       cv_gene_predictions.observed,
       repeats.predicted,
       CASE WHEN experiments.task = 'mutation' THEN 'probability'
            WHEN starts_with(tables.unit, 'log2(') THEN tables.unit
            ELSE 'log2(' || tables.unit || '+1)'
       END AS unit,
       cv_gene_predictions.experiment_id,
       cv_gene_predictions.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN cv_gene_predictions USING (experiment_id, model_version_id)
  LEFT JOIN patients USING (patient_id)
  LEFT JOIN molecular_sources AS tables ON tables.digest = experiments.settings ->> 'source'
 CROSS JOIN LATERAL unnest(cv_gene_predictions.predicted, cv_gene_predictions.folds)
            WITH ORDINALITY AS repeats (predicted, fold, position)
 WHERE experiments.is_current;

COMMENT ON VIEW gene_predictions IS 'Out-of-fold predictions of genes, one row a patient, gene, encoder and repeat, of what a study shows now';

COMMENT ON COLUMN gene_predictions.study IS 'Name of the study';

COMMENT ON COLUMN gene_predictions.task IS 'expression or mutation';

COMMENT ON COLUMN gene_predictions.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN gene_predictions.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN gene_predictions.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN gene_predictions.tissue_source_site IS 'Hospital or biobank that gave the tissue; NULL where unknown';

COMMENT ON COLUMN gene_predictions.repeat IS 'Repeat of the cross-validation, from 0';

COMMENT ON COLUMN gene_predictions.fold IS 'Fold that held it out, from 0 within the repeat';

COMMENT ON COLUMN gene_predictions.observed IS 'In unit; of a mutation 1 mutated and 0 not';

COMMENT ON COLUMN gene_predictions.predicted IS 'In unit';

COMMENT ON COLUMN gene_predictions.unit IS 'Unit of expression, such as log2(FPKM+1), or probability (0-1) of a mutation';

COMMENT ON COLUMN gene_predictions.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN gene_predictions.model_version_id IS 'Key of model_versions';

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

CREATE VIEW study_comparisons AS
SELECT experiments.study,
       comparisons.task,
       comparisons.target,
       comparisons.metric,
       comparisons.encoder_a,
       comparisons.encoder_b,
       comparisons.mean_a,
       comparisons.mean_b,
       comparisons.difference,
       comparisons.ci_low,
       comparisons.ci_high,
       comparisons.p_corrected,
       comparisons.q_corrected,
       comparisons.p_naive,
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

COMMENT ON COLUMN study_comparisons.ci_low IS 'Lower end of the 95 % interval, corrected variance, in the metric''s unit';

COMMENT ON COLUMN study_comparisons.ci_high IS 'Upper end of the 95 % interval, corrected variance, in the metric''s unit';

COMMENT ON COLUMN study_comparisons.p_corrected IS 'Two-sided p-value of the corrected resampled t-test, 0-1';

COMMENT ON COLUMN study_comparisons.q_corrected IS 'Benjamini-Hochberg of p_corrected over the genes, 0-1; NULL where there is one question';

COMMENT ON COLUMN study_comparisons.p_naive IS 'Two-sided p-value of splits taken as independent, 0-1: far too small';

COMMENT ON COLUMN study_comparisons.n_splits IS 'Splits on which both have the metric';

COMMENT ON COLUMN study_comparisons.leakage_checked IS 'True where folds kept every patient whole';

COMMENT ON COLUMN study_comparisons.leakage_note IS 'Why that was not checked; empty where it was';

COMMENT ON COLUMN study_comparisons.experiment_id IS 'Key of experiments';

CREATE VIEW gene_predictability AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       predictability.target AS gene,
       predictability.q < 0.05 AS is_predictable,
       predictability.r,
       predictability.null_mean,
       predictability.null_sd,
       predictability.p,
       predictability.q,
       predictability.n_permutations,
       predictability.experiment_id,
       predictability.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN predictability USING (experiment_id, model_version_id)
 WHERE experiments.is_current;

COMMENT ON VIEW gene_predictability IS 'Whether an encoder predicts a gene at all, of what a study shows now';

COMMENT ON COLUMN gene_predictability.study IS 'Name of the study';

COMMENT ON COLUMN gene_predictability.task IS 'expression (mutations have no permutation test)';

COMMENT ON COLUMN gene_predictability.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN gene_predictability.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN gene_predictability.is_predictable IS 'Whether q < 0.05';

COMMENT ON COLUMN gene_predictability.r IS 'Mean Pearson correlation within test folds, -1 to 1';

COMMENT ON COLUMN gene_predictability.null_mean IS 'The same under permuted patients: mean, -1 to 1';

COMMENT ON COLUMN gene_predictability.null_sd IS 'The same under permuted patients: standard deviation';

COMMENT ON COLUMN gene_predictability.p IS 'One-sided p-value of the permutations, 0-1, uncorrected';

COMMENT ON COLUMN gene_predictability.q IS 'Benjamini-Hochberg of p over the encoder''s genes, 0-1';

COMMENT ON COLUMN gene_predictability.n_permutations IS 'Number of permutations';

COMMENT ON COLUMN gene_predictability.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN gene_predictability.model_version_id IS 'Key of model_versions';

CREATE VIEW better_gene_counts AS
SELECT experiments.study,
       experiments.task,
       better_counts.encoder_a,
       better_counts.encoder_b,
       better_counts.genes,
       better_counts.n_genes,
       better_counts.n_better_b,
       better_counts.null_median,
       better_counts.null_low,
       better_counts.null_high,
       better_counts.p_swap,
       better_counts.experiment_id
  FROM better_counts
  JOIN experiments USING (experiment_id)
 WHERE experiments.is_current;

COMMENT ON VIEW better_gene_counts IS 'Of n genes, m better with encoder_b, of what a study shows now';

COMMENT ON COLUMN better_gene_counts.study IS 'Name of the study';

COMMENT ON COLUMN better_gene_counts.task IS 'expression or mutation';

COMMENT ON COLUMN better_gene_counts.encoder_a IS 'Name of the first encoder in the study';

COMMENT ON COLUMN better_gene_counts.encoder_b IS 'Name of the second encoder in the study';

COMMENT ON COLUMN better_gene_counts.genes IS 'all that were tested, or those predictable (q < 0.05) with either encoder';

COMMENT ON COLUMN better_gene_counts.n_genes IS 'Genes that were counted';

COMMENT ON COLUMN better_gene_counts.n_better_b IS 'Those with a higher mean score with encoder_b';

COMMENT ON COLUMN better_gene_counts.null_median IS 'n_better_b if nothing were there, in genes';

COMMENT ON COLUMN better_gene_counts.null_low IS '2.5 % point of that, in genes';

COMMENT ON COLUMN better_gene_counts.null_high IS '97.5 % point of that, in genes';

COMMENT ON COLUMN better_gene_counts.p_swap IS 'Two-sided p-value, 0-1, encoders exchanged by patient';

COMMENT ON COLUMN better_gene_counts.experiment_id IS 'Key of experiments';

CREATE VIEW left_out AS
SELECT rejects.study,
       rejects.stage,
       CASE WHEN rejects.item ~ '@[0-9]+,[0-9]+$' THEN 'tile'
            WHEN rejects.item ~* '[.](bif|bmp|dcm|jpe?g|mrxs|ndpi|png|scn|svs|svslide|tiff?|vms|vmu|webp)$'
            THEN 'file'
            WHEN patients.patient_id IS NOT NULL THEN 'patient'
            ELSE 'other'
       END AS kind,
       rejects.item,
       regexp_replace(rejects.item, '@[0-9]+,[0-9]+$', '') AS file,
       rejects.reason,
       regexp_replace(
           split_part(rejects.reason, ';', 1), '[0-9]+([.][0-9]+)?', '#', 'g'
       ) AS reason_pattern,
       count(*) AS n_runs,
       min(rejects.created_at) AS first_at,
       max(rejects.created_at) AS last_at,
       (array_agg(rejects.run_id ORDER BY rejects.created_at DESC))[1] AS last_run_id
  FROM rejects
  LEFT JOIN patients ON patients.patient_id = rejects.item
 GROUP BY rejects.study, rejects.stage, rejects.item, rejects.reason, patients.patient_id;

COMMENT ON VIEW left_out IS 'What was left out, each item and reason once: at which stage and why';

COMMENT ON COLUMN left_out.study IS 'Name of the study';

COMMENT ON COLUMN left_out.stage IS 'ingest, tile, embed, cohort, …: where in the way of the data';

COMMENT ON COLUMN left_out.kind IS 'tile (a place on a slide), file (a slide, or a tile that is a file), patient, or other (a gene, sample or table)';

COMMENT ON COLUMN left_out.item IS 'File, tile (file@x,y in pixels of level 0), patient, gene or table';

COMMENT ON COLUMN left_out.file IS 'The item without its place: the slide of a tile';

COMMENT ON COLUMN left_out.reason IS 'Why, and what to do about it';

COMMENT ON COLUMN left_out.reason_pattern IS 'The reason up to its first semicolon, numbers as #: to count by';

COMMENT ON COLUMN left_out.n_runs IS 'Times it was met';

COMMENT ON COLUMN left_out.first_at IS 'When it was first met';

COMMENT ON COLUMN left_out.last_at IS 'When it was last met';

COMMENT ON COLUMN left_out.last_run_id IS 'Dagster run that last met it; NULL from a notebook';

CREATE VIEW model_lineage AS
WITH RECURSIVE line AS (
    SELECT model_versions.model_version_id,
           model_versions.model_version_id AS ancestor_id,
           0 AS generation
      FROM model_versions
     UNION ALL
    SELECT line.model_version_id,
           model_versions.parent_id,
           line.generation + 1
      FROM line
      JOIN model_versions ON model_versions.model_version_id = line.ancestor_id
     WHERE model_versions.parent_id IS NOT NULL
)
SELECT line.model_version_id,
       line.generation,
       line.ancestor_id,
       ancestors.sha256 AS model_version_sha256,
       ancestors.network,
       ancestors.weights_sha256,
       ancestors.weights_source,
       ancestors.trained_on,
       ancestors.trained_on_digest,
       ancestors.training
  FROM line
  JOIN model_versions AS ancestors ON ancestors.model_version_id = line.ancestor_id;

COMMENT ON VIEW model_lineage IS 'Model versions with every version that their weights come from, themselves included';

COMMENT ON COLUMN model_lineage.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN model_lineage.generation IS 'Steps of fine-tuning back: 0 is the version itself';

COMMENT ON COLUMN model_lineage.ancestor_id IS 'Key of model_versions: the version so many steps back';

COMMENT ON COLUMN model_lineage.model_version_sha256 IS 'Digest of that version';

COMMENT ON COLUMN model_lineage.network IS 'Network of that version';

COMMENT ON COLUMN model_lineage.weights_sha256 IS 'SHA-256 over its weight tensors; NULL without weights';

COMMENT ON COLUMN model_lineage.weights_source IS 'Where its weights came from';

COMMENT ON COLUMN model_lineage.trained_on IS 'Its training data in words';

COMMENT ON COLUMN model_lineage.trained_on_digest IS 'Digest of the data set of this store that it was fine-tuned on; NULL where none';

COMMENT ON COLUMN model_lineage.training IS 'Settings of its fine-tuning, seed included; NULL where none';

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

CREATE VIEW experiment_tiles AS
SELECT experiments.study,
       experiments.task,
       experiments.is_current,
       experiment_encoders.encoder,
       'evaluation' AS used_for,
       embeddings.tile_id IS NOT NULL AS is_embedded,
       datasets.digest AS dataset_sha256,
       datasets.root AS dataset_root,
       dataset_tiles.path AS file,
       dataset_tiles.label,
       dataset_tiles.tile_id,
       tiles.sha256 AS tile_sha256,
       tiles.patient_id,
       slides.name AS slide,
       slides.sha256 AS slide_sha256,
       tiles.x_px,
       tiles.y_px,
       tiles.width_px,
       tiles.height_px,
       tiles.mpp,
       tiles.stain,
       experiment_encoders.experiment_id,
       experiment_encoders.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN datasets ON datasets.digest = experiments.dataset_digest
  JOIN dataset_tiles USING (dataset_id)
  JOIN tiles USING (tile_id)
  LEFT JOIN slides ON slides.slide_id = tiles.slide_id
  LEFT JOIN embeddings
         ON embeddings.model_version_id = experiment_encoders.model_version_id
        AND embeddings.tile_id = tiles.tile_id
 UNION ALL
SELECT experiments.study,
       experiments.task,
       experiments.is_current,
       experiment_encoders.encoder,
       'fine-tuning' AS used_for,
       NULL::boolean AS is_embedded,
       datasets.digest AS dataset_sha256,
       datasets.root AS dataset_root,
       dataset_tiles.path AS file,
       dataset_tiles.label,
       dataset_tiles.tile_id,
       tiles.sha256 AS tile_sha256,
       tiles.patient_id,
       slides.name AS slide,
       slides.sha256 AS slide_sha256,
       tiles.x_px,
       tiles.y_px,
       tiles.width_px,
       tiles.height_px,
       tiles.mpp,
       tiles.stain,
       experiment_encoders.experiment_id,
       experiment_encoders.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN model_lineage USING (model_version_id)
  JOIN datasets ON datasets.digest = model_lineage.trained_on_digest
  JOIN dataset_tiles USING (dataset_id)
  JOIN tiles USING (tile_id)
  LEFT JOIN slides ON slides.slide_id = tiles.slide_id;

COMMENT ON VIEW experiment_tiles IS 'Tiles that an experiment rests on, by encoder: evaluated, or fine-tuned on';

COMMENT ON COLUMN experiment_tiles.study IS 'Name of the study';

COMMENT ON COLUMN experiment_tiles.task IS 'tissue, retrieval, expression or mutation';

COMMENT ON COLUMN experiment_tiles.is_current IS 'True for what the study shows now';

COMMENT ON COLUMN experiment_tiles.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN experiment_tiles.used_for IS 'evaluation, or fine-tuning (of this version or an earlier one)';

COMMENT ON COLUMN experiment_tiles.is_embedded IS 'Whether the encoder has features of it, without which it was left out; NULL for fine-tuning';

COMMENT ON COLUMN experiment_tiles.dataset_sha256 IS 'Digest of the data set that it is in';

COMMENT ON COLUMN experiment_tiles.dataset_root IS 'Folder where the data set''s files were last seen';

COMMENT ON COLUMN experiment_tiles.file IS 'File of the tile, or of its slide, relative to the data set''s folder';

COMMENT ON COLUMN experiment_tiles.label IS 'Class as annotated in this data set; NULL where none is';

COMMENT ON COLUMN experiment_tiles.tile_id IS 'Key of tiles';

COMMENT ON COLUMN experiment_tiles.tile_sha256 IS 'SHA-256 of the tile: over its pixels, or over slide, place, size, mpp and stain';

COMMENT ON COLUMN experiment_tiles.patient_id IS 'The source''s own patient identifier; NULL where the source names none';

COMMENT ON COLUMN experiment_tiles.slide IS 'File name of the slide; NULL for a tile that is a file';

COMMENT ON COLUMN experiment_tiles.slide_sha256 IS 'SHA-256 of the slide file''s bytes; NULL for a tile that is a file';

COMMENT ON COLUMN experiment_tiles.x_px IS 'Left edge in pixels of the slide''s level 0; NULL for a tile that is a file';

COMMENT ON COLUMN experiment_tiles.y_px IS 'Top edge in pixels of the slide''s level 0; NULL for a tile that is a file';

COMMENT ON COLUMN experiment_tiles.width_px IS 'Width of the tile in pixels';

COMMENT ON COLUMN experiment_tiles.height_px IS 'Height of the tile in pixels';

COMMENT ON COLUMN experiment_tiles.mpp IS 'Resolution of the tile in µm per pixel; NULL where the source tells none';

COMMENT ON COLUMN experiment_tiles.stain IS 'Stain normalisation before embedding: none or macenko';

COMMENT ON COLUMN experiment_tiles.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN experiment_tiles.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN gene_expression.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN gene_expression.symbol IS 'HUGO symbol as published';

COMMENT ON COLUMN gene_expression.source_id IS 'Key of molecular_sources';

COMMENT ON COLUMN mutation_status.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN mutation_status.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN mutation_status.source_id IS 'Key of molecular_sources';

COMMENT ON COLUMN patient_genes.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN patient_genes.tissue_source_site IS 'Hospital or biobank that gave the tissue; NULL where unknown';

COMMENT ON COLUMN patient_genes.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN patient_genes.network IS 'timm name, or colour.* and clinical.* baselines';

COMMENT ON COLUMN patient_genes.trained_on IS 'Training data in words';

COMMENT ON COLUMN patient_genes.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN patient_genes.dataset_id IS 'Key of datasets';

COMMENT ON COLUMN patient_genes.expression_source_id IS 'Key of molecular_sources: the table of expression';

COMMENT ON COLUMN patient_genes.mutation_source_id IS 'Key of molecular_sources: the table of mutations';
