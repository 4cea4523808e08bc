"""A study's tables as files for other programs: Parquet, CSV, and AnnData (h5ad)."""

from featurestore.exports.plan import ExportEncoder, ExportPlan, Genes
from featurestore.exports.study import FORMATS, ExportedFile, export_study

__all__ = [
    "FORMATS",
    "ExportEncoder",
    "ExportPlan",
    "ExportedFile",
    "Genes",
    "export_study",
]
