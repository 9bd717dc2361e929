"""Errors, files, imports and provenance, for every other package to use."""
