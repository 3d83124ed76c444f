"""The diagnosis from a log alone.

`table` (rows and columns of a file), `readers` (which column is what), `measures` (how the run
ended), `explain` (the verdict), `logged_run` (with the objective: a run as if just made).
"""
