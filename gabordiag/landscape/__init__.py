"""What the loss looks like: from an objective to numbers, with no optimizer in sight.

    one parameter      `sweep` (loss and gradient, three ways), `critical` (every critical point,
                       with a proof), `survey` (each of many images by itself)
    what they rest on  `series` (the loss as a trigonometric polynomial with a stated error, of
                       the angle in `angles`),
                       `series_objective` (a user's expensive loss through its series), `factored`
                       (a series that keeps its digits beside a zero), `proof` (that no root of
                       the derivative is missed), `doubtful` (where the loss itself decides)
    two parameters     `surface` (loss, gradient, critical points found), `plane_series` (for
                       millions of evaluations)

Along one parameter the list of critical points can be proven complete; over two it is a search.
"""
