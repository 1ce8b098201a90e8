"""Pages that people read, drawn from plain result dicts and arrays."""

from lap_monai.reports.charts import Embedding
from lap_monai.reports.examples import Example, ExampleKeeper
from lap_monai.reports.panel import write_panel
from lap_monai.reports.pictures import overlay
from lap_monai.reports.replay_report import write_replay_report
from lap_monai.reports.report import write_report
from lap_monai.reports.stream_markdown import render_stream_markdown
from lap_monai.reports.stream_report import ReplaySample, StreamPanel, write_stream_report
from lap_monai.reports.table_markdown import render_markdown
from lap_monai.reports.table_report import Panel, write_table_report

__all__ = [
    "Embedding",
    "Example",
    "ExampleKeeper",
    "Panel",
    "ReplaySample",
    "StreamPanel",
    "overlay",
    "render_markdown",
    "render_stream_markdown",
    "write_panel",
    "write_replay_report",
    "write_report",
    "write_stream_report",
    "write_table_report",
]
