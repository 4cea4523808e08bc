-- Every tile of a study's sources: where its pixels are, whose it is, how it is labelled.
--
-- SELECT label, count(*) FROM study_tiles WHERE study = 'crc5' AND source = 'tissue_tiles'
--  GROUP BY label;

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
