-- Mutated or not, one row a patient, gene and mutation table.
--
-- Every patient of the store has a row: mutated is NULL where the table did not sequence the
-- patient. A gene that the table never names has none: nothing is known of it.
--
-- SELECT patient_id, mutated FROM mutation_status WHERE gene = 'TP53';

CREATE VIEW mutation_status AS
SELECT patients.patient_id,
       genes.symbol AS gene,
       CASE WHEN sequenced_patients.source_id IS NOT NULL
            THEN COALESCE(mutations.n_non_silent > 0, false)
       END AS mutated,
       molecular_sources.name AS source,
       molecular_sources.source_id
  FROM molecular_sources
 CROSS JOIN patients
 CROSS JOIN genes
  LEFT JOIN sequenced_patients
         ON sequenced_patients.source_id = molecular_sources.source_id
        AND sequenced_patients.patient_number = patients.patient_number
  LEFT JOIN mutations
         ON mutations.source_id = molecular_sources.source_id
        AND mutations.gene_id = genes.gene_id
        AND mutations.patient_number = patients.patient_number
 WHERE molecular_sources.kind = 'mutation'
   AND EXISTS (SELECT 1
                 FROM mutations AS named
                WHERE named.source_id = molecular_sources.source_id
                  AND named.gene_id = genes.gene_id);

COMMENT ON VIEW mutation_status IS 'Every patient by every gene that the mutation table names: one row a table';

COMMENT ON COLUMN mutation_status.mutated IS 'At least one non-silent variant; NULL where the patient was not sequenced';

COMMENT ON COLUMN mutation_status.source IS 'The table that it was read from';

COMMENT ON COLUMN mutation_status.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN mutation_status.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN mutation_status.source_id IS 'Key of molecular_sources';
