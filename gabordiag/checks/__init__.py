"""Is a kernel, a derivative, a graph right?

of a Gabor formula           `verify`, `mistakes` (the usual ones), `expressions` (typed formulas)
of an objective's gradient   `gradient`, `cuts` (the line that cuts the graph), `nonfinite` (the
line where a gradient breaks)
"""
