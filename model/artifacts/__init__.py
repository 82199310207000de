"""Save, load, export and import models at rest."""
