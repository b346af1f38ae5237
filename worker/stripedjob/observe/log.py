"""One JSON object a line on stderr: event, level, logger, timestamp, and what the event is about.

Lines with the logger `stripedjob` are ours; what handlers print goes to stderr too, as they print it.

The runtime logs through `logger`, as `logger.warning("unit dead", extra={"resource": …})`.
"""

import logging

# Events that who started this process looks for in its log, beside those of units by their states.
LOCK_AWAY, LOCK_BACK = "the lock backend cannot be reached; trying again", "the lock backend answers again"
TOO_LATE = "unit failed too late"
logger = logging.getLogger("stripedjob")


def configure(level: int = logging.INFO) -> None:
    """Set the logging of this process up."""
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 - a tenth of what an executor would import

    handler = logging.StreamHandler()
    renamed = {"message": "event", "levelname": "level", "name": "logger"}
    formatter = JsonFormatter(
        "%(message)s %(levelname)s %(name)s", rename_fields=renamed, timestamp=True, json_ensure_ascii=False
    )
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
