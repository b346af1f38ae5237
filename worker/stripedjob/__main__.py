"""`python -m stripedjob`: the command line."""

from stripedjob.cli import main

main()
