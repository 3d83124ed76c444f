"""What is minimised: a scalar loss of one or of several parameters.

    the interface      `space` (parameters), `objective` (a loss over points (n, d), or of one
                       parameter), `losses` (rmse, mse, cosine)
    the experiment     `experiment` (settings and images), `kernel_loss` (its loss by a kernel),
                       `gabor_line` (along one parameter; the answer without descent),
                       `gabor_objective` (of several)
    the shortcut       `response` (a response image as some fifty numbers, exactly)

Whatever computes with one parameter needs the interface alone: `objective.Line`.
"""
