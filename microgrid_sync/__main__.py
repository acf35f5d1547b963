"""Runs the command ``microgrid-sync``, also as ``python -m microgrid_sync``."""

import importlib.util
import sys

_missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
if _missing:
    sys.exit(
        f"microgrid-sync needs {' and '.join(_missing)}; install them with "
        "the extra 'cli': pip install 'microgrid_sync[cli]'"
    )

from microgrid_sync.cli import cli  # noqa: E402 - what it imports may be missing, see above


def main() -> None:
    """Run the command."""
    cli(prog_name="microgrid-sync")


if __name__ == "__main__":
    main()
