"""Owns reading somatic variants into counts by gene and sequenced patient.

Told by content, plain or gzipped: a MAF or a folder of MAFs (any columns beside the three
needed ones), cBioPortal's mutation table, and matrices of 0 and 1 or of cBioPortal's
``WT``/``NS`` (:mod:`featurestore.sources.mutation_matrix`).

A patient counts as sequenced when a barcode of a tumour of theirs is seen. A MAF names only
samples that have a variant, so patients without one are missing unless ``sequenced`` lists
them. The variants of all tumour samples of a patient, primary and recurrent, are united, each
variant once: a patient is mutated where any of their tumours is. Normal samples are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from featurestore.errors import Reject, SourceError
from featurestore.model_versions import content_sha256
from featurestore.sources import barcodes, delimited, gene_names, packed_text
from featurestore.sources.delimited import Head
from featurestore.sources.file_kinds import is_file, is_folder
from featurestore.sources.mutation_matrix import is_matrix, read_matrix

NON_SILENT = frozenset(
    {
        "Frame_Shift_Del",
        "Frame_Shift_Ins",
        "Splice_Site",
        "Translation_Start_Site",
        "Nonsense_Mutation",
        "Nonstop_Mutation",
        "In_Frame_Del",
        "In_Frame_Ins",
        "Missense_Mutation",
    }
)
"""Variant classes that change the protein."""

_NON_SILENT = frozenset(name.lower() for name in NON_SILENT)
_NEEDED = {
    "gene": ("Hugo_Symbol", "Hugo Symbol", "Gene"),
    "kind": ("Variant_Classification", "Mutation Type"),
    "sample": ("Tumor_Sample_Barcode", "Sample ID", "SAMPLE_ID"),
}
_PLACE = {
    "chromosome": ("Chromosome",),
    "start": ("Start_Position", "Start Pos"),
    "end": ("End_Position", "End Pos"),
    "reference": ("Reference_Allele", "Ref"),
    "alternative": ("Tumor_Seq_Allele2", "Var"),
}


@dataclass(frozen=True)
class MutationTable:
    """Variants by gene and patient.

    Attributes
    ----------
    root : Path
        File or folder, absolute.
    patients : tuple of str
        The sequenced ones, sorted; only for them does no variant mean wild-type.
    counts : DataFrame
        symbol, patient, n_variants, n_non_silent: one row where there is a variant, sorted.
    layout : str
        The format that was recognised.
    rejects : tuple of Reject
        Files, samples, genes that were left out, sorted by item.
    listing_sha256 : str
        See :func:`mutation_listing`.
    """

    root: Path
    patients: tuple[str, ...]
    counts: pd.DataFrame
    layout: str
    rejects: tuple[Reject, ...]
    listing_sha256: str

    @cached_property
    def digest(self) -> str:
        """Digest of the content, wherever it lies and in whatever format."""
        rows = self.counts[["symbol", "patient", "n_variants", "n_non_silent"]]
        return content_sha256(["mutation", self.patients, rows.to_numpy().tolist()])


def read_mutations(path: Path, *, sequenced: Path | None = None) -> MutationTable:
    """Read a table or folder of somatic variants.

    Parameters
    ----------
    path : Path
        File or folder.
    sequenced : Path, optional
        A list of barcodes that were sequenced, in any text; those without a variant are
        wild-type then. Patients with a variant count as sequenced in any case.

    Raises
    ------
    SourceError
        If the source cannot be used as a whole: absent, damaged, no known layout, a needed
        column missing, or no sequenced patient.
    """
    path = path.absolute()
    listing = mutation_listing(path, sequenced=sequenced)
    files = delimited.table_files(path)
    heads = {file: delimited.read_head(file) for file in files} if is_file(path) else {}
    if heads and not _is_list(heads[path]) and is_matrix(heads[path]):
        matrix = read_matrix(heads[path])
        patients, counts, rejects = matrix.patients, matrix.counts, matrix.rejects
        layout = matrix.layout
    else:
        variants, rejects, layout = _read_variants(files, path)
        patients, counts, of_samples = _count(variants, path.name)
        rejects = rejects + of_samples
    if sequenced is not None:
        patients = patients | _listed(sequenced)
    if not patients:
        reason = f"; first reason: {rejects[0].item}: {rejects[0].reason}" if rejects else ""
        raise SourceError(f"{path}: no tumour sample of a patient is in it{reason}")
    return MutationTable(
        path,
        tuple(sorted(patients)),
        counts,
        layout,
        tuple(sorted(rejects, key=lambda reject: (reject.item, reject.reason))),
        listing,
    )


def mutation_listing(path: Path, *, sequenced: Path | None = None) -> str:
    """Digest that changes when the source may read differently; nothing is opened.

    Raises
    ------
    SourceError
        If the source is absent or an empty folder.
    """
    return delimited.tables_listing(path.absolute(), sequenced, kind="mutation")


def _is_list(head: Head) -> bool:
    # Asked first: a MAF has so many empty columns that it may look like a matrix of NA.
    names = (*_NEEDED["kind"], *_NEEDED["sample"][:1], *_PLACE["chromosome"], *_PLACE["start"])
    return delimited.column_named(head, names) is not None


def _read_variants(files: list[Path], root: Path) -> tuple[pd.DataFrame, list[Reject], str]:
    tables, rejects, layouts = [], [], set()
    for file in files:
        item = file.name if file == root else file.relative_to(root).as_posix()
        try:
            head = delimited.read_head(file)
            table = _read_table(head)
        except SourceError as error:
            if file == root:
                raise
            rejects.append(Reject(item, "ingest", str(error)))
            continue
        n_nameless = int((table["sample"] == "").sum())
        if n_nameless:
            rejects.append(
                Reject(item, "ingest", f"{n_nameless} variants name no sample; left out")
            )
            table = table[table["sample"] != ""]
        if table.empty:
            reason = (
                "it holds no variant and so names no patient; list the patient in a file of "
                "sequenced patients"
            )
            rejects.append(Reject(item, "ingest", reason))
        layouts.add("MAF" if "Tumor_Sample_Barcode" in head.header else "cBioPortal")
        tables.append(table.assign(file=item))
    if not tables:
        shown = "; ".join(f"{reject.item}: {reject.reason}" for reject in rejects[:3])
        raise SourceError(f"{root}: none of its files is a mutation table; first reasons: {shown}")
    variants = pd.concat(tables, ignore_index=True)
    variants, contradictions = _without_contradictions(variants)
    layout = " and ".join(sorted(layouts)) + (" folder" if is_folder(root) else "")
    return variants, rejects + contradictions, layout


def _read_table(head: Head) -> pd.DataFrame:
    needed = {role: delimited.column_named(head, names) for role, names in _NEEDED.items()}
    missing = [_NEEDED[role] for role, column in needed.items() if column is None]
    if missing:
        expected = "; ".join(" or ".join(names) for names in missing)
        raise SourceError(
            f"{head.path} lacks a column that a mutation table needs: {expected}; it has "
            f"{barcodes.some(head.header, 12)}. Export it with that column"
        )
    delimited.require_even_rows(head)
    places = {role: delimited.column_named(head, names) for role, names in _PLACE.items()}
    columns = {role: at for role, at in {**needed, **places}.items() if at is not None}
    table = delimited.read_text_columns(head, list(dict.fromkeys(columns.values())))
    rows = pd.DataFrame({role: table[at] for role, at in columns.items()})
    # MAFs put one behind the other keep their comments and headers.
    names = [head.header[columns[role]] for role in ("gene", "sample")]
    is_header = (rows[["gene", "sample"]] == names).all(axis=1)
    is_comment = rows["gene"].str.startswith("#") & (rows["sample"] == "")
    return rows[~is_header & ~is_comment]


def _variant_key(variants: pd.DataFrame) -> list[str]:
    key = ["gene", *_PLACE]
    return key if set(_PLACE) <= set(variants.columns) else []


def _without_contradictions(variants: pd.DataFrame) -> tuple[pd.DataFrame, list[Reject]]:
    """Leave out samples that two files tell different variants of."""
    files = variants.groupby("sample")["file"].nunique()
    bad = []
    for sample in files.index[files > 1]:
        rows = variants[variants["sample"] == sample]
        told = rows.drop(columns=["file", "sample"]).astype(str).agg("\t".join, axis=1)
        if told.groupby(rows["file"]).agg(lambda lines: tuple(sorted(set(lines)))).nunique() > 1:
            names = barcodes.some(sorted(set(rows["file"])))
            reason = f"{files[sample]} files disagree on its variants ({names}); keep one of them"
            bad.append(Reject(sample, "ingest", reason))
    return variants[~variants["sample"].isin([reject.item for reject in bad])], bad


def _count(variants: pd.DataFrame, where: str) -> tuple[set[str], pd.DataFrame, list[Reject]]:
    names = sorted(set(variants["sample"]))
    chosen = barcodes.choose_samples(names, where=where, all_tumours=True)
    patient_of = {
        names[position]: patient
        for patient, positions in chosen.positions.items()
        for position in positions
    }
    symbol_of = {name: gene_names.tidy(name) for name in set(variants["gene"])}
    rows = variants.assign(
        patient=variants["sample"].map(patient_of),
        symbol=variants["gene"].map(symbol_of),
        is_non_silent=variants["kind"].str.lower().isin(_NON_SILENT),
    ).dropna(subset=["patient"])
    rejects = list(chosen.rejects)
    n_nameless = int((rows["symbol"] == "").sum())
    if n_nameless:
        reason = f"{n_nameless} variants of tumours name no gene; expected a symbol; left out"
        rejects.append(Reject(where, "ingest", reason))
    rows = rows[rows["symbol"] != ""]
    key = _variant_key(rows)
    if key:
        once = rows.groupby(["patient", "symbol", *key])["is_non_silent"].any().reset_index()
        counts = once.groupby(["symbol", "patient"])["is_non_silent"].agg(["size", "sum"])
    else:
        # Without places no two rows can be told to be the same variant: the aliquot with the
        # most of them stands for the patient.
        by_aliquot = rows.groupby(["symbol", "patient", "sample"])["is_non_silent"]
        counts = by_aliquot.agg(["size", "sum"]).groupby(["symbol", "patient"]).max()
    frame = counts.reset_index().astype({"size": "int64", "sum": "int64"})
    frame = frame.rename(columns={"size": "n_variants", "sum": "n_non_silent"})
    frame = frame.sort_values(["symbol", "patient"], ignore_index=True)
    return set(chosen.positions), frame, rejects


def _listed(path: Path) -> set[str]:
    try:
        with packed_text.open_text(path) as file:
            text = file.read()
    except packed_text.BROKEN as error:
        raise delimited.broken(path, error) from error
    found = {barcode.patient_id for barcode in barcodes.find(text) if barcode.is_tumour}
    if found or "TCGA" in text:
        listed = found
    else:
        listed = {line.strip() for line in text.splitlines() if line.strip()}
    if not listed:
        raise SourceError(f"{path} names no sequenced patient; expected barcodes, one a line")
    return listed
