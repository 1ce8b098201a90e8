"""Runs of bundles, tables and streams: what a study is made of."""

from lap_monai.experiments.bundle_run import find_user_error, root_cause, run_bundle
from lap_monai.experiments.cells import Cell, build_cells, choose
from lap_monai.experiments.config_merge import merge_configs
from lap_monai.experiments.config_targets import check_targets
from lap_monai.experiments.runner import run_cells
from lap_monai.experiments.stream_dry_run import stream_dry_run
from lap_monai.experiments.stream_file import load_stream
from lap_monai.experiments.study import Study, open_study
from lap_monai.experiments.table import Table
from lap_monai.experiments.table_file import load_table
from lap_monai.experiments.table_output import write_table

__all__ = [
    "Cell",
    "Study",
    "Table",
    "build_cells",
    "check_targets",
    "choose",
    "find_user_error",
    "load_stream",
    "load_table",
    "merge_configs",
    "open_study",
    "root_cause",
    "run_bundle",
    "run_cells",
    "stream_dry_run",
    "write_table",
]
