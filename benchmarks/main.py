"""The command line of the benchmarks: `python benchmarks/main.py local [--json]`."""

import argparse
import importlib
import json
from pathlib import Path

MODULES = {
    "local": "local",
    "work": "work",
    "strategies": "strategies",
    "cost": "cost",
    "operator": "operating",
    "memory": "memory",
    "effects": "effects",
}


def main() -> None:
    """Run one benchmark and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=MODULES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = importlib.import_module(MODULES[options.what]).main(Path(__file__).parent)
    for row in rows:
        print(json.dumps(row) if options.json else "  ".join(map(_words, row.items())), flush=True)


def _words(item: tuple[str, object]) -> str:
    name, value = item
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{name} {value:,}" if is_number else f"{name} {value}"


if __name__ == "__main__":
    main()
