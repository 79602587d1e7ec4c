"""Records of a run become one page and one terminal table. Never imports a model or torch."""

from __future__ import annotations

from eosin.report.pages.compare import compare
from eosin.report.pages.run import build
from eosin.report.tables import summary_table

__all__ = ["build", "compare", "summary_table"]
