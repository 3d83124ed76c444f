"""The diagnosis from a log alone.

`table` (rows and columns of a file), `readers` (which column is what), `measures` (how the run
ended), `explain` (the verdict), `comparison` (with the objective: a run as if just made).
"""
