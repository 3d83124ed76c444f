"""How a person sees it: figures, animation, report, explorer, console. Draws, computes nothing."""
