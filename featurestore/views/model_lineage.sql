-- Every model version with all the versions that its weights come from, itself included.
--
-- SELECT generation, network, weights_sha256, trained_on FROM model_lineage
--  WHERE model_version_id = 2 ORDER BY generation;

CREATE VIEW model_lineage AS
WITH RECURSIVE line AS (
    SELECT model_versions.model_version_id,
           model_versions.model_version_id AS ancestor_id,
           0 AS generation
      FROM model_versions
     UNION ALL
    SELECT line.model_version_id,
           model_versions.parent_id,
           line.generation + 1
      FROM line
      JOIN model_versions ON model_versions.model_version_id = line.ancestor_id
     WHERE model_versions.parent_id IS NOT NULL
)
SELECT line.model_version_id,
       line.generation,
       line.ancestor_id,
       ancestors.sha256 AS model_version_sha256,
       ancestors.network,
       ancestors.weights_sha256,
       ancestors.weights_source,
       ancestors.trained_on,
       ancestors.trained_on_digest,
       ancestors.training
  FROM line
  JOIN model_versions AS ancestors ON ancestors.model_version_id = line.ancestor_id;

COMMENT ON VIEW model_lineage IS 'Model versions with every version that their weights come from, themselves included';

COMMENT ON COLUMN model_lineage.model_version_id IS 'Key of model_versions';

COMMENT ON COLUMN model_lineage.generation IS 'Steps of fine-tuning back: 0 is the version itself';

COMMENT ON COLUMN model_lineage.ancestor_id IS 'Key of model_versions: the version so many steps back';

COMMENT ON COLUMN model_lineage.model_version_sha256 IS 'Digest of that version';

COMMENT ON COLUMN model_lineage.network IS 'Network of that version';

COMMENT ON COLUMN model_lineage.weights_sha256 IS 'SHA-256 over its weight tensors; NULL without weights';

COMMENT ON COLUMN model_lineage.weights_source IS 'Where its weights came from';

COMMENT ON COLUMN model_lineage.trained_on IS 'Its training data in words';

COMMENT ON COLUMN model_lineage.trained_on_digest IS 'Digest of the data set of this store that it was fine-tuned on; NULL where none';

COMMENT ON COLUMN model_lineage.training IS 'Settings of its fine-tuning, seed included; NULL where none';
