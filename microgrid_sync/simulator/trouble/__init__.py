"""Defines what can go wrong: one class for each kind of fault."""
