"""A profiler trace as a terminal report, a JSON document or an HTML page."""

from __future__ import annotations

from perfmodel.traces.tracing import Traced


def render(found: Traced, form: str) -> str:
    """Returns the answer in the given format, with a final line break."""
    if form == "json":
        from perfmodel.report.trace.document import document
        from perfmodel.strictjson import dumped

        return dumped(document(found), indent=2) + "\n"
    if form == "html":
        from perfmodel.report.trace.page import page

        return page(found)
    from perfmodel.report.trace.text import text

    return text(found)
