-- Every tile that an experiment rests on, by encoder: those it was evaluated on, and those that the
-- encoder or an earlier version of it was fine-tuned on, with their places on their slides.
--
-- SELECT slide, x_px, y_px, tile_sha256 FROM experiment_tiles
--  WHERE experiment_id = 1 AND encoder = 'ftx-2048' AND used_for = 'evaluation';

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
