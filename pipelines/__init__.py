"""How does it get there? One module = one job = one command; `pipelines.cli` is the front door."""

import logging

# Beam says at import that its optional BigQuery client is absent, as if something were wrong; nothing here uses it.
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))
