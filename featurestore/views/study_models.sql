-- What a study's encoder names stand for now: network, weights and how they were trained.
--
-- SELECT encoder, network, weights_sha256 FROM study_models WHERE study = 'crc5';

CREATE VIEW study_models AS
SELECT study_encoders.study,
       study_encoders.encoder,
       model_versions.network,
       model_versions.dim,
       model_versions.input_px,
       model_versions.mpp,
       model_versions.precision,
       model_versions.weights_sha256,
       model_versions.weights_source,
       model_versions.trained_on,
       parents.sha256 AS parent_sha256,
       model_versions.sha256 AS model_version_sha256,
       study_encoders.model_version_id,
       study_encoders.updated_at
  FROM study_encoders
  JOIN model_versions USING (model_version_id)
  LEFT JOIN model_versions AS parents ON parents.model_version_id = model_versions.parent_id;

COMMENT ON VIEW study_models IS 'The model versions that a study''s encoder names stand for now';

COMMENT ON COLUMN study_models.study IS 'Name of the study';

COMMENT ON COLUMN study_models.encoder IS 'The encoder''s name in the study';

COMMENT ON COLUMN study_models.network IS 'timm name, or colour.* and clinical.* baselines';

COMMENT ON COLUMN study_models.dim IS 'Number of features';

COMMENT ON COLUMN study_models.input_px IS 'Side of the network''s input in pixels';

COMMENT ON COLUMN study_models.mpp IS 'Resolution the encoder is meant for, in µm per input pixel; NULL for any';

COMMENT ON COLUMN study_models.precision IS 'Number format of the computation';

COMMENT ON COLUMN study_models.weights_sha256 IS 'SHA-256 over the weight tensors; NULL for baselines without weights';

COMMENT ON COLUMN study_models.weights_source IS 'Where the weights came from';

COMMENT ON COLUMN study_models.trained_on IS 'Training data in words';

COMMENT ON COLUMN study_models.parent_sha256 IS 'Digest of the version that fine-tuning started from; NULL where none';

COMMENT ON COLUMN study_models.model_version_sha256 IS 'Digest of everything that can change a feature''s value';

COMMENT ON COLUMN study_models.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN study_models.updated_at IS 'When the name last came to stand for this version';
