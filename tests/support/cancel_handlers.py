"""Handlers whose work a person cancels meanwhile. They take an hour where the payload is true."""

import asyncio
import sys
import time

import psycopg

from stripedjob.unit import Unit

HOUR_SECONDS = 3600


def stubborn(unit: Unit) -> None:
    """Never look whether it is cancelled."""
    if unit.payload:
        time.sleep(HOUR_SECONDS)


def looks(unit: Unit) -> None:
    """Look now and then, and give up where it is cancelled."""
    while unit.payload and not unit.cancelled:
        time.sleep(0.01)
    if unit.cancelled:
        raise RuntimeError(f"seen: {unit.cancelled}")


def finishes(unit: Unit) -> None:
    """Be done as soon as it is cancelled."""
    while unit.payload and not unit.cancelled:
        time.sleep(0.01)


async def sleeps(unit: Unit) -> None:
    if unit.payload:
        await asyncio.sleep(HOUR_SECONDS)


async def hears(unit: Unit) -> None:
    """Say on stderr what it hears; the next unit of the slot has to be able to wait and to have time-outs."""
    try:
        async with asyncio.timeout(HOUR_SECONDS):
            await asyncio.sleep(0.001)
        await sleeps(unit)
    except asyncio.CancelledError as error:
        sys.stderr.write(f"heard {error.args[0]} {unit.cancelled}\n")
        raise


def batch(units: list[Unit]) -> None:
    for unit in units:
        looks(unit)


def stubborn_batch(units: list[Unit]) -> None:
    for unit in units:
        stubborn(unit)


def writes(unit: Unit, conn: psycopg.Connection) -> None:
    conn.execute("insert into effect (unit, resource) values (%s, %s)", [unit.id, unit.resource])
    stubborn(unit)


async def writes_async(unit: Unit, conn: psycopg.AsyncConnection) -> None:
    await conn.execute("insert into effect (unit, resource) values (%s, %s)", [unit.id, unit.resource])
    await sleeps(unit)
