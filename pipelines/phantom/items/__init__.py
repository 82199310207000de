"""Items that lie in generated bags, and the bags."""

__all__ = ["bags", "electronics", "groceries", "household", "metalware", "threats"]
