"""Evaluate predictions against the labels of a dataset."""
