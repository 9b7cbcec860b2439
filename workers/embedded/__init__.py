"""A whole fleet on one machine with nothing else installed: ``celeriac up`` and ``celeriac demo``."""
