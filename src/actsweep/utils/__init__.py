"""Errors, files, imports and provenance: what every wing may use."""
