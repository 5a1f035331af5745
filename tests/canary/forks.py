"""Work in a child process, whose limits and workers may come to harm."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection


def in_a_fork(work: Callable[[], str]) -> str:
    """What `work` returns in a child process, whose limits may be changed."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run(connection: Connection) -> None:
        connection.send(work())
        os._exit(0)

    process = context.Process(target=run, args=(sender,))
    process.start()
    sender.close()
    answer: str = receiver.recv()
    process.join(30)
    return answer
