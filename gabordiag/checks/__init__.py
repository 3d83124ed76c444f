"""Is a kernel, a derivative, a graph right?

of a Gabor formula           `verify` (and which mistake it is), `expressions` (typed formulas)
of an objective's gradient   `gradient` (is it there, right, repeatable; `find_cut`), `graph` (what
                             follows values and nodes of torch's graph to the line at fault)
"""
