"""Runs a site: its clock, what is planned, and who listens."""
