"""Beam transforms of the jobs: Beam is loaded with them, by a job that has something to do."""

__all__ = ["convert", "project", "reshard", "score", "verify", "write_dataset"]
