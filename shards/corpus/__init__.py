"""Read corpora as other people keep them: layouts, lists, annotations, archives."""
