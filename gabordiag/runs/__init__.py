"""Run folders: created, streamed to, listed, loaded; every file whole or absent."""

from gabordiag.runs.files import TrajectoryFile, write_atomically
from gabordiag.runs.folder import RunFolder, document, environment, write_report
from gabordiag.runs.formats import (
    clean,
    encode_table,
    read_columns,
    read_config,
    to_json,
    to_toml,
)
from gabordiag.runs.saved import (
    DEFAULT_ROOT,
    SCHEMA,
    SavedRun,
    UnfinishedRun,
    find_run,
    has_result,
    list_runs,
    load_run,
    load_unfinished,
    read_status,
)

__all__ = [
    "DEFAULT_ROOT",
    "SCHEMA",
    "RunFolder",
    "SavedRun",
    "TrajectoryFile",
    "UnfinishedRun",
    "clean",
    "document",
    "encode_table",
    "environment",
    "find_run",
    "has_result",
    "list_runs",
    "load_run",
    "load_unfinished",
    "read_columns",
    "read_config",
    "read_status",
    "to_json",
    "to_toml",
    "write_atomically",
    "write_report",
]
