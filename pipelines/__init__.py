"""How does it get there? One module = one job = one command; `pipelines.cli` is the front door."""
