"""Trouble on request: what goes wrong at a simulated site."""

from dataclasses import dataclass, field

import grpc


@dataclass
class Faults:
    """What goes wrong now. May be changed at any time, from any thread."""

    silent: set[int] = field(default_factory=set)
    """Components whose streams stay open and send nothing."""

    refused: dict[int, grpc.StatusCode] = field(default_factory=dict)
    """Components whose set-points fail, and how."""
