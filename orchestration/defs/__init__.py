"""A study's assets, a module a group; each body reads, calls one function, writes and tells.

These modules have no ``from __future__ import annotations``: Dagster looks at the annotation
of ``context`` itself and does not resolve one that is a string.
"""
