"""Is a kernel, a derivative, a graph right?

of a Gabor formula           `verify` (and which mistake it is), `expressions` (typed formulas)
of an objective's gradient   `gradient`, `graph` (the line that cuts it or breaks a gradient)
"""
