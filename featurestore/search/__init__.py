"""Similarity search: the tiles, patients and slides that look most like a given one.

::

    from featurestore.search import similar

    with Session(engine) as session:
        found = similar(session, model_version_id=1, tile_id=17, k=10, exclude_same_patient=True)
        for hit in found.hits:
            print(hit.rank, hit.label, hit.patient_id, hit.distance)

Distances are cosine distances of whole embeddings, always. Short codes only choose which
embeddings are compared (:mod:`featurestore.search.codes`), and the answer says how it was found.
"""

from featurestore.search.tiles import Hit, SearchResult, similar
from featurestore.search.units import UnitHit, UnitResult, similar_patients, similar_slides

__all__ = [
    "Hit",
    "SearchResult",
    "UnitHit",
    "UnitResult",
    "similar",
    "similar_patients",
    "similar_slides",
]
