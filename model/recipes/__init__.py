"""Named training configurations, and the papers' tables to compare with."""
