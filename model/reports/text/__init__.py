"""Write the numbers and sentences of a page, and fill its templates."""

__all__ = ["caveats", "numbers", "sentences", "templates"]
