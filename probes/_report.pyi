"""The compiled reader of plain reports; its Python form is ``decode_report`` of the parsed text."""

from probes.wire.report import ProbeReport, ReportRows

def read(
    text: bytes, report: type[ProbeReport], rows: type[ReportRows], limits: tuple[int, ...], /
) -> ProbeReport | None: ...
def pack(columns: tuple[tuple[int | tuple[int, ...], ...], ...], /) -> bytes | None: ...
