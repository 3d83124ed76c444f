"""The atlas: which Gabor filters, on which images, gradient descent can learn at all.

`grid` is what is asked for and how much work it is, `orientations` one filter at every angle on any
image, `landscapes` finds the numbers of its landscapes, `store` keeps them on disk as they come,
`engine` has them computed, here or by Dask, and `atlas` reads them: charts, prediction, and where a
person's filter lies.
"""
