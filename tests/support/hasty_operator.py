"""The operator, which finds out within seconds that its watches are silent: a program, tests.support.hasty_operator.

Its times are a quarter of those that it has in earnest, so that their proportions are the same.
"""

from stripedjob_operator import handlers, observed
from stripedjob_operator.__main__ import main

PART = 4
STREAM_SECONDS = handlers.STREAM_SECONDS // PART
INACTIVE_SECONDS = handlers.INACTIVE_SECONDS / PART
ECHO_SECONDS_MAX = observed.ECHO_SECONDS_MAX / PART

if __name__ == "__main__":
    handlers.STREAM_SECONDS = STREAM_SECONDS
    handlers.INACTIVE_SECONDS = INACTIVE_SECONDS
    observed.ECHO_SECONDS_MAX = ECHO_SECONDS_MAX
    main()
