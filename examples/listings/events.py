"""Makes the file of events: `python events.py [--events 5000] [--listings 300] [--seed 7] > events.jsonl`.

The same seed gives the same file. Some listings are busier than others, as in life.
"""

import argparse
import json
import random

BUSY_SHARE = 0.3  # of the events go to a few listings


def events(count: int, listings: int, seed: int) -> list[dict[str, object]]:
    """Return units as `stripedjob enqueue` reads them: {"resource": listing, "payload": event}."""
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    made: list[dict[str, object]] = []
    for number in range(count):
        busy = dice.random() < BUSY_SHARE
        listing = min(int(dice.paretovariate(0.7)), listings) - 1 if busy else dice.randrange(listings)
        kind = dice.choices(["price", "discount", "withdraw"], [60, 35, 5])[0]
        event: dict[str, object] = {"number": number, "kind": kind}
        if kind == "price":
            event["cents"] = dice.randrange(100, 1_000_000)
        if kind == "discount":
            event["percent"] = dice.randrange(1, 60)
        made.append({"resource": f"listing-{listing:04}", "payload": event})
    return made


def main() -> None:
    """Print the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--listings", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for one in events(options.events, options.listings, options.seed):
        print(json.dumps(one))


if __name__ == "__main__":
    main()
