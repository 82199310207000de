"""Find contradictions, duplicates and leakage in a corpus; select subsets and rows."""
