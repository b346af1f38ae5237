"""The command line of the benchmarks: `python benchmarks/main.py local [--json]`.

A benchmark is a module with `main(path, options)`, which gives its rows; `add_arguments(parser)` where it takes any.
"""

import argparse
import importlib
import json
from pathlib import Path

MODULES = {
    "start": "start",
    "local": "local",
    "unit": "unit",
    "growth": "growth.bench",
    "enqueue": "enqueue",
    "peers": "peers.bench",
    "work": "work",
    "strategies": "strategies",
    "cost": "cost",
    "operator": "operating",
    "memory": "memory",
    "effects": "effects",
}


def main() -> None:
    """Run one benchmark and print its rows."""
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("what", choices=MODULES)
    module = importlib.import_module(MODULES[which.parse_known_args()[0].what])
    parser = argparse.ArgumentParser(prog="scripts/bench", description=module.__doc__, parents=[which])
    parser.add_argument("--json", action="store_true")
    if hasattr(module, "add_arguments"):
        module.add_arguments(parser)
    options = parser.parse_args()
    for row in module.main(Path(__file__).parent, options):
        print(json.dumps(row) if options.json else "  ".join(map(_words, row.items())), flush=True)


def _words(item: tuple[str, object]) -> str:
    name, value = item
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{name} {value:,}" if is_number else f"{name} {value}"


if __name__ == "__main__":
    main()
