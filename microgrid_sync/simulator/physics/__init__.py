"""Simulates a site in watts and volts: no thread, no gRPC, no TOML, no faults."""
