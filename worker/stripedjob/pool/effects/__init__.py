"""Handlers' transactions: effect and record are committed together, one unit's or many units'."""
