"""Writes a site's data into files."""
