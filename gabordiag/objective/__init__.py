"""What is minimised: a scalar loss of one or of several parameters.

    the interface      `objective`, `losses` (rmse, mse, cosine)
    the experiment     `experiment` (its settings), `gabor_objectives` (one parameter, through the
                       shortcut or by conv2d), `joint` (several parameters), `kernel_loss` (what
                       both share), `closed_form` (the answer without descent)
    the shortcut       `response` (a response image as some fifty numbers, exactly), `patches` (for
                       every kernel of a size at once)
    many images        `pictures` (which files can be used), `image_grams`, `batches`
    a user's code      `own` (the front door), `loading`, `modules`, `period`, `evaluation`,
                       `numeric` (noise and derivatives from values alone), `streams` (its random
                       numbers)
    is it right?       of an objective's gradient: `checks`, `probing` (what they measure), `cuts`
                       (the line that cuts the graph); of a Gabor formula: `verify`, `mistakes`,
                       `expressions`
    what is shown      `kernel_table`, `principal_pictures`

Whatever computes with one parameter needs the interface alone: `objective.Objective`.
"""
