-- Out-of-fold predictions of genes, one row a patient, gene, encoder and repeat, of what a study
-- shows now. Hundreds of genes and tens of repeats: name the gene.
--
-- SELECT encoder, corr(observed, predicted) FROM gene_predictions
--  WHERE study = 'luad' AND task = 'expression' AND gene = 'CD8A' AND repeat = 0 GROUP BY encoder;

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
