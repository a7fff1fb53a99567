"""Applies an update rule to all parameters: tensor by tensor, in pieces, or compiled into one function."""
