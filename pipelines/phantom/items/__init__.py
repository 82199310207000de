"""Items that lie in generated bags, and the bags."""
