-- Every new embedding of a model version with search codes waits for one, whoever writes it.
-- Until it has one, search compares it exactly; so no tile is ever missed. The trigger is created
-- on a version's partition together with its projection (search/codes.py): embeddings of other
-- versions cost nothing.

CREATE FUNCTION await_search_code() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO search_pending (model_version_id, tile_id)
    SELECT NEW.model_version_id, NEW.tile_id
     WHERE EXISTS (SELECT FROM search_projections AS s
                    WHERE s.model_version_id = NEW.model_version_id);
    RETURN NULL;
END
$$;
