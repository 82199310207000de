"""Look through the folders of a corpus: what its root holds, and all documents and images below."""

__all__ = ["folders", "survey"]
