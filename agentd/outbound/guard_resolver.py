"""The addresses of a name, as the operating system finds them."""

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from agentd.outbound.addresses import Address

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""All addresses of a host. Raises ``OSError``."""

# Threads of its own: names that come with calls may be slow on purpose, and the loop's few threads also find the
# vendors. One more name than these waits, and is given up by whoever asked.
_threads = ThreadPoolExecutor(8, thread_name_prefix="resolver")


async def system(host: str, port: int) -> Sequence[Address]:
    ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_threads, ask)
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
