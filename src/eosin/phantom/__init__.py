"""PHANTOM: procedural H&E with known truth. No tissue, no patient."""

from eosin.phantom.tiles.report import case_report
from eosin.phantom.tiles.scenes import DIAGNOSES, Finding
from eosin.phantom.tiles.tile import PhantomCase, PhantomTile, cases, make_case, render_many, render_tile

__all__ = [
    "DIAGNOSES",
    "Finding",
    "PhantomCase",
    "PhantomTile",
    "case_report",
    "cases",
    "make_case",
    "render_many",
    "render_tile",
]
