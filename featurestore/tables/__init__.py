"""Every table of the store, with its units and rules in the database itself.

The rules are constraints, not habits: what these modules do not allow cannot be written by
any program, ours or another's. ``migrations/`` says how a database comes to look so.
"""

from featurestore.tables.base import Base
from featurestore.tables.claims import EmbeddingClaim
from featurestore.tables.classes import TileClass, TileSelection
from featurestore.tables.encoders import (
    Embedding,
    ModelVersionRow,
    PatientFeature,
    StudyEncoder,
    TrainingEpoch,
)
from featurestore.tables.evidence import (
    AddedValueRow,
    ComparisonTest,
    EncoderRank,
    FoldOptimism,
    Robustness,
    StratumDifference,
)
from featurestore.tables.gene_panels import GenePanel, GenePanelTile
from featurestore.tables.gene_results import BetterCount, CvGenePrediction, Predictability
from featurestore.tables.guards import GuardResult, TileFingerprint
from featurestore.tables.ledger import RejectRow
from featurestore.tables.maps import TileMap, TileMapPoint
from featurestore.tables.molecular import (
    Clinical,
    Expression,
    Gene,
    GeneSet,
    MolecularSource,
    Mutation,
    SequencedPatient,
)
from featurestore.tables.results import (
    Comparison,
    CvPrediction,
    CvScore,
    Experiment,
    ExperimentEncoder,
)
from featurestore.tables.search import (
    RetrievalQuality,
    SearchCode,
    SearchPending,
    SearchProjection,
)
from featurestore.tables.tissue import (
    Dataset,
    DatasetTile,
    Patient,
    Slide,
    StudyDataset,
    Tile,
)

__all__ = [
    "AddedValueRow",
    "Base",
    "BetterCount",
    "Clinical",
    "Comparison",
    "ComparisonTest",
    "CvGenePrediction",
    "CvPrediction",
    "CvScore",
    "Dataset",
    "DatasetTile",
    "Embedding",
    "EmbeddingClaim",
    "EncoderRank",
    "Experiment",
    "ExperimentEncoder",
    "Expression",
    "FoldOptimism",
    "Gene",
    "GenePanel",
    "GenePanelTile",
    "GeneSet",
    "GuardResult",
    "ModelVersionRow",
    "MolecularSource",
    "Mutation",
    "Patient",
    "PatientFeature",
    "Predictability",
    "RejectRow",
    "RetrievalQuality",
    "Robustness",
    "SearchCode",
    "SearchPending",
    "SearchProjection",
    "SequencedPatient",
    "Slide",
    "StratumDifference",
    "StudyDataset",
    "StudyEncoder",
    "Tile",
    "TileClass",
    "TileFingerprint",
    "TileMap",
    "TileMapPoint",
    "TileSelection",
    "TrainingEpoch",
]
