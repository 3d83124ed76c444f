"""What the loss looks like: from an objective to numbers, with no optimizer in sight."""
