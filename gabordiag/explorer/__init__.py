"""The interactive page: its data, its Python, its JavaScript.

`exploration` (what the page needs, measured), `figures` (what Bokeh draws), `page` (all in one
file), `assets` (the scripts that compute in the browser), `one_plot` (the smaller pages)
"""
