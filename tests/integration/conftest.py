"""Integration tests may be coroutines."""

import asyncio
import inspect
import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


if "STRIPEDJOB_TEST_POSTGRES" not in os.environ:
    collect_ignore = ["test_pool_lint.py"]  # the wheel's Postgres has no such extension; scripts/test oldest runs it
