"""What the loss looks like: from an objective to numbers, with no optimizer in sight.

    one parameter      `sweep` (loss and gradient, three ways; each of many images by itself),
                       `points` (what is known of it), `critical` (every critical
                       point, with a proof)
    what they rest on  `series` (the loss as a trigonometric polynomial with a stated error),
                       `series_objective` (a user's expensive loss through its series), `proof`
                       (that no root of the derivative is missed), `sampled` (where the loss's own
                       values decide)
    a loss that costs  `plan` (how many evaluations a command takes, and what time allows)
    two parameters     `surface` (loss, gradient, critical points found)
    a whole model      `many_lines` (lines known at evenly spaced values only), `network`
                       (directions and lines through all weights, curvature)

Along one parameter the list of critical points can be proven complete; over two it is a search.
"""
