"""The diagnosis from a log alone.

`table` (rows and columns of a file), `readers` (which column is what), `explain` (what the columns
show, and the verdict)
"""
