"""What a run can be exported as: one function for all targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim.adapters import serialization
from talim.exporting import rights
from talim.exporting.contents import ExportedRun, finished_run
from talim.exporting.folder import export_folder
from talim.exporting.options import ExportOptions
from talim.progress import Progress


def export_run(run: Path, to: str, options: ExportOptions, progress: Progress) -> dict[str, Any]:
    """Export a finished run, for options that `ExportOptions.check` finds to fit the target. See `talim.export`."""
    exported = finished_run(run)
    with exported.run.lock(to_read=True):  # an evaluation replaces what is copied
        return _export(exported, to, options, progress)


def _export(exported: ExportedRun, to: str, options: ExportOptions, progress: Progress) -> dict[str, Any]:
    unchanged = serialization.unchanged_notes(exported.run.adapter)
    for line in (*filter(None, [exported.note]), *unchanged, *rights.own_terms_notes(exported)):
        progress.log(line)
    if to == "hub":
        from talim.exporting.hub import export_hub

        return export_hub(exported, options, progress)
    if to == "space":
        from talim.exporting.space import export_space

        return export_space(exported, options, progress)
    assert options.out is not None
    if to == "transformers":
        from talim.exporting.transformers_model import export_transformers

        return export_transformers(exported, options.out, progress)
    if to == "onnx":
        from talim.exporting.onnx_model import export_onnx

        return export_onnx(exported, options.out, progress)
    return export_folder(exported, options.out, options.with_base, progress)
