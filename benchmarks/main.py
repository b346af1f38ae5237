"""The command line of the benchmarks: `python benchmarks/main.py local [--json]`."""

import argparse
import importlib
import json
from pathlib import Path


def main() -> None:
    """Run one benchmark and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["local", "work", "strategies", "cost"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = importlib.import_module(options.what).main(Path(__file__).parent)
    for row in rows:
        print(json.dumps(row) if options.json else "  ".join(f"{name} {value:,}" for name, value in row.items()))


if __name__ == "__main__":
    main()
