-- Everything of a patient in one place: site, features of a model version, and a gene's
-- expression and mutation. Name the gene; every gene of the store has a row a patient.
--
-- expression and mutated are NULL where the patient was not measured or not sequenced. A store
-- with several tables has a row for each pair of them: filter by the source ids.
--
-- SELECT patient_id, features, expression, mutated FROM patient_genes WHERE gene = 'CD8A';

CREATE VIEW patient_genes AS
SELECT patients.patient_id,
       patients.tissue_source_site,
       model_versions.model_version_id,
       model_versions.network,
       model_versions.trained_on,
       patient_features.embedding AS features,
       patient_features.n_tiles,
       patient_features.n_slides,
       genes.symbol AS gene,
       expression.value AS expression,
       mutation_status.mutated,
       patient_features.dataset_id,
       expression.source_id AS expression_source_id,
       mutation_status.source_id AS mutation_source_id
  FROM patient_features
  JOIN patients USING (patient_id)
  JOIN model_versions USING (model_version_id)
 CROSS JOIN genes
  LEFT JOIN expression
         ON expression.gene_id = genes.gene_id
        AND expression.patient_number = patients.patient_number
  LEFT JOIN mutation_status
         ON mutation_status.gene = genes.symbol
        AND mutation_status.patient_id = patients.patient_id;

COMMENT ON VIEW patient_genes IS 'Patients with their features and any gene''s expression and mutation';

COMMENT ON COLUMN patient_genes.features IS 'Mean over the patient''s tiles';

COMMENT ON COLUMN patient_genes.n_tiles IS 'Tiles that were pooled';

COMMENT ON COLUMN patient_genes.n_slides IS 'Slides (or images) that they come from';

COMMENT ON COLUMN patient_genes.expression IS 'log2(x + 1) of the table''s unit; NULL where not measured';

COMMENT ON COLUMN patient_genes.mutated IS 'At least one non-silent variant; NULL where not sequenced';

COMMENT ON COLUMN patient_genes.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN patient_genes.tissue_source_site IS 'Hospital or biobank that gave the tissue; NULL where unknown';

COMMENT ON COLUMN patient_genes.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN patient_genes.network IS 'timm name, or colour.* and clinical.* baselines';

COMMENT ON COLUMN patient_genes.trained_on IS 'Training data in words';

COMMENT ON COLUMN patient_genes.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN patient_genes.dataset_id IS 'Key of datasets';

COMMENT ON COLUMN patient_genes.expression_source_id IS 'Key of molecular_sources: the table of expression';

COMMENT ON COLUMN patient_genes.mutation_source_id IS 'Key of molecular_sources: the table of mutations';
