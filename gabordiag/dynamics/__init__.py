"""What an optimizer does on the loss: runs, their outcomes, and maps of many runs."""
