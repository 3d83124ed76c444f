"""What is minimised: a scalar loss of one or of several parameters.

    the interface      `space` (parameters), `objective` (a loss over points (n, d), or of one
                       parameter), `losses` (rmse, mse, cosine)
    the experiment     `experiment` (its settings), `kernel_loss` (the loss of any kernel, through
                       the shortcut or by conv2d), `gabor_line` (of one parameter),
                       `gabor_objective` (of several), `closed_form` (the answer without descent)
    the shortcut       `response` (a response image as some fifty numbers, exactly), `gram` (its
                       inner products)
    many images        `image_set` (which files can be used), `batches`

Whatever computes with one parameter needs the interface alone: `objective.Line`.
"""
