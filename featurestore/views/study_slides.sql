-- Every slide of a study, and how many of its tiles each encoder has features of.
--
-- A slide that could not be read, or gave no tile, has no row here but one in left_out.
--
-- SELECT file, n_tiles FROM study_slides WHERE study = 'luad' AND n_embedded = 0;

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
