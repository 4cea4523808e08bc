-- Expression with names, one row a patient, gene and table.
--
-- SELECT patient_id, value FROM gene_expression WHERE symbol = 'CD8A';

CREATE VIEW gene_expression AS
SELECT patients.patient_id,
       genes.symbol,
       expression.value,
       molecular_sources.unit,
       molecular_sources.name AS source,
       expression.source_id
  FROM expression
  JOIN molecular_sources USING (source_id)
  JOIN genes USING (gene_id)
  JOIN patients USING (patient_number);

COMMENT ON VIEW gene_expression IS 'Expression with names; a gene that was not measured in a patient has no row';

COMMENT ON COLUMN gene_expression.value IS 'log2(x + 1) of the unit';

COMMENT ON COLUMN gene_expression.unit IS 'Unit as published';

COMMENT ON COLUMN gene_expression.source IS 'The table that it was read from';

COMMENT ON COLUMN gene_expression.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN gene_expression.symbol IS 'HUGO symbol as published';

COMMENT ON COLUMN gene_expression.source_id IS 'Key of molecular_sources';
