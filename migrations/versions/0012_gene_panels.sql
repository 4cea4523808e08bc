-- The view of migration 0012 as it was then; as it is now it stands in featurestore/views.

CREATE VIEW study_gene_tiles AS
SELECT experiments.study,
       experiments.task,
       experiment_encoders.encoder,
       gene_panels.target AS gene,
       gene_panels.metric,
       gene_panels.mean_score,
       gene_panel_tiles.side,
       gene_panel_tiles.rank,
       gene_panel_tiles.score,
       CASE WHEN experiments.task = 'mutation' THEN 'log odds'
            WHEN starts_with(tables.unit, 'log2(') THEN tables.unit
            ELSE 'log2(' || tables.unit || '+1)'
       END AS unit,
       gene_panels.mean_prediction,
       gene_panel_tiles.tile_id,
       tiles.patient_id,
       slides.name AS slide,
       tiles.x_px,
       tiles.y_px,
       tiles.width_px,
       tiles.mpp,
       gene_panel_tiles.thumbnail,
       gene_panel_tiles.thumbnail_px,
       gene_panels.experiment_id,
       gene_panels.model_version_id
  FROM experiments
  JOIN experiment_encoders USING (experiment_id)
  JOIN gene_panels USING (experiment_id, model_version_id)
  JOIN gene_panel_tiles USING (experiment_id, model_version_id, target)
  JOIN tiles USING (tile_id)
  LEFT JOIN slides ON slides.slide_id = tiles.slide_id
  LEFT JOIN molecular_sources AS tables ON tables.digest = experiments.settings ->> 'source'
 WHERE experiments.is_current;

COMMENT ON VIEW study_gene_tiles IS 'Tiles that a model takes for the highest and lowest value of a gene, of what a study shows now';

COMMENT ON COLUMN study_gene_tiles.study IS 'Name of the study';

COMMENT ON COLUMN study_gene_tiles.task IS 'expression or mutation';

COMMENT ON COLUMN study_gene_tiles.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN study_gene_tiles.gene IS 'HUGO symbol as published';

COMMENT ON COLUMN study_gene_tiles.metric IS 'pearson_r or auroc';

COMMENT ON COLUMN study_gene_tiles.mean_score IS 'Mean of the metric over the splits of the cross-validation';

COMMENT ON COLUMN study_gene_tiles.side IS 'high or low';

COMMENT ON COLUMN study_gene_tiles.rank IS 'From 1, the most extreme; at most one tile a patient and side';

COMMENT ON COLUMN study_gene_tiles.score IS 'What the model predicts of the tile alone, in unit';

COMMENT ON COLUMN study_gene_tiles.unit IS 'Unit of score and mean_prediction: that of expression, such as log2(FPKM+1), or log odds of a mutation';

COMMENT ON COLUMN study_gene_tiles.mean_prediction IS 'Prediction for the mean of all patients, in unit';

COMMENT ON COLUMN study_gene_tiles.tile_id IS 'Key of tiles';

COMMENT ON COLUMN study_gene_tiles.patient_id IS 'The source''s own patient identifier';

COMMENT ON COLUMN study_gene_tiles.slide IS 'File name of the slide; NULL for a tile that is a file';

COMMENT ON COLUMN study_gene_tiles.x_px IS 'Left edge in pixels of the slide''s level 0; NULL for a tile that is a file';

COMMENT ON COLUMN study_gene_tiles.y_px IS 'Top edge in pixels of the slide''s level 0; NULL for a tile that is a file';

COMMENT ON COLUMN study_gene_tiles.width_px IS 'Width of the tile in pixels';

COMMENT ON COLUMN study_gene_tiles.mpp IS 'Resolution of the tile in µm per pixel; NULL where the source tells none';

COMMENT ON COLUMN study_gene_tiles.thumbnail IS 'The tile as JPEG';

COMMENT ON COLUMN study_gene_tiles.thumbnail_px IS 'Side of the thumbnail in pixels';

COMMENT ON COLUMN study_gene_tiles.experiment_id IS 'Key of experiments';

COMMENT ON COLUMN study_gene_tiles.model_version_id IS 'Key of model_versions';
