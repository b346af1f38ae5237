"""Stripe-locked work: many workers drain a pool in Postgres, and no two ever work on one resource at once."""

from stripedjob._version import __version__

__all__ = ["__version__"]
