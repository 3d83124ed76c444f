"""Run folders: created, streamed to, listed, loaded; every file whole or absent.

    `folder`    a run's folder while the run goes on, and its result.json
    `saved`     folders read back, finished or not, and the list of all
    `files`     how files survive a kill or a full disk, and who may write to a folder
    `formats`   JSON, TOML and tables

Nobody outside needs to know which: the names below are all there is to use.
"""

from gabordiag.runs.files import TrajectoryFile, write_atomically
from gabordiag.runs.folder import RunFolder, document, environment, write_report
from gabordiag.runs.formats import clean, encode_table, read_columns, read_config, to_json, to_toml
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
