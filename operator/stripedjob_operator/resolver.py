"""An event loop in which no host name waits for another, whoever's name servers do not answer.

asyncio looks names up in a small pool of threads that all share, and a look-up cannot be ended: a few names that hang
would keep all others waiting. Here each look-up has a thread of its own, and those who ask for the same share one.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

Question = tuple[Any, ...]


class Loop(asyncio.SelectorEventLoop):
    """What the operator runs in."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self._asked: dict[Question, asyncio.Future[Any]] = {}

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Look a name up; one that is being looked up is waited for, and not asked again."""
        question = (host, port, family, type, proto, flags)
        if question not in self._asked:
            future = self._asked[question] = self.create_future()
            future.add_done_callback(lambda done: self._answered(question, done))
            threading.Thread(target=self._ask, args=(question, future), name="resolver", daemon=True).start()
        return await asyncio.shield(self._asked[question])

    def _answered(self, question: Question, future: asyncio.Future[Any]) -> None:
        del self._asked[question]
        future.cancelled() or future.exception()  # also where nobody waits any more

    def _ask(self, question: Question, future: asyncio.Future[Any]) -> None:
        try:
            found = socket.getaddrinfo(*question)
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            self._tell(future.set_exception, error)
        else:
            self._tell(future.set_result, found)

    def _tell(self, tell: Any, what: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self.call_soon_threadsafe(tell, what)
