"""Talks to an echo server at the address given: texts, bytes of many sizes, a ping, an orderly end; several at once."""

import asyncio
import os
import sys

from websockets.asyncio.client import connect


async def talk(address, number):
    async with connect(address, max_size=None) as connection:
        for size in (0, 1, 125, 126, 65535, 65536, 1000000):
            message = os.urandom(size)
            await connection.send(message)
            assert await connection.recv() == message, f"client {number}: {size} bytes came back changed"
        for count in range(200):
            await connection.send(f"{number} says {count}")
        for count in range(200):
            assert await connection.recv() == f"{number} says {count}"
        await (await connection.ping())
    assert connection.close_code == 1000, connection.close_code


async def main(address):
    await asyncio.wait_for(asyncio.gather(*(talk(address, number) for number in range(8))), 50)
    print("all came back")


asyncio.run(main(sys.argv[1]))
