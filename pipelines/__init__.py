"""Jobs on Apache Beam and the command line: a module is a job is a command; a job is a function of one config.

The public names are listed in `__init__.pyi` and imported on first use.
"""

import logging

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Beam warns at import that its optional BigQuery client is absent; nothing here uses it.
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))
