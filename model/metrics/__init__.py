"""Compute metrics from arrays of scores and labels."""
