"""What is minimised: a scalar function of one or more parameters."""
