"""Assign records to shards and write the shards of a dataset."""
