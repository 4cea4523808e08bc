-- Every new embedding of a model version with search codes waits for one, whoever writes it.
-- Until it has one, search compares it exactly; so no tile is ever missed.

CREATE FUNCTION await_search_code() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO search_pending (model_version_id, tile_id)
    SELECT NEW.model_version_id, NEW.tile_id
     WHERE EXISTS (SELECT FROM search_projections AS s
                    WHERE s.model_version_id = NEW.model_version_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER embeddings_await_search_code AFTER INSERT ON embeddings
FOR EACH ROW EXECUTE FUNCTION await_search_code();
