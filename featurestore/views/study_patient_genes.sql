-- patient_genes by the names of a study: its patients, its encoders, any gene of the store.
--
-- Name the gene; every gene of the store has a row a patient.
--
-- SELECT patient_id, features, expression, mutated FROM study_patient_genes
--  WHERE study = 'luad' AND encoder = 'ftx-2048' AND gene = 'CD8A';

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
