"""A plugin whose transport does nothing but what these tests need; its arguments say what."""

import asyncio
import os
import sys
import threading
import time
from functools import partial

from qkd_kms_adapters.openbao_plugin.process import running


class Transport:
    def __init__(self, place: running.Place) -> None:
        self.stop = asyncio.Event()
        self.connected = False
        self._place = place

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(
            self._heard, str(self._place.socket), ssl=self._place.server_context
        )
        if "prints" in sys.argv:
            print("from Python", flush=True)
            os.write(1, b"from a library\n")
        if "thread" in sys.argv:
            threading.Thread(target=time.sleep, args=(600,)).start()

    async def close(self) -> None:
        if "hangs" in sys.argv:
            await asyncio.sleep(600)
        if "blocks" in sys.argv:
            time.sleep(600)
        self._server.close()

    async def _heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected = True
        said = await reader.readline()
        if said == b"fail\n":
            asyncio.get_running_loop().call_soon(int, "a secret")
        writer.write(said)
        if said == b"Shutdown\n":
            self.stop.set()
        await writer.drain()
        await reader.read()


if __name__ == "__main__":
    if "impatient" in sys.argv:
        running.host_gone = partial(running.host_gone, first_call_s=0.3, every_s=0.05)  # type: ignore[attr-defined]
    running.main(Transport)
