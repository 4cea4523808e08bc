-- Of how many genes one encoder is better than another, of what a study shows now.
--
-- SELECT encoder_a, encoder_b, n_better_b, n_genes, p_swap FROM better_gene_counts
--  WHERE study = 'luad' AND task = 'expression' AND genes = 'predictable';

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
