"""Serves a running site over gRPC, in every generation of the API."""
