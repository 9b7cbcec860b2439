"""A TCP proxy that can freeze: it stops forwarding and closes nothing, as a firewall that forgot a connection does."""

import contextlib
import socket
import threading


class Proxy:
    """Forwards connections on ``port`` to *target* until they are frozen."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._generation = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> int:
        """Forward nothing more over the connections there are, for ever; new ones work. Return how many froze."""
        with self._lock:
            self._generation += 1
            return len(self._sockets) // 2

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            for each in self._sockets:
                each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._sockets += [client, server]
                    generation = self._generation
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, sink, generation), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, generation: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if generation != self._generation:
                    return
                sink.sendall(data)
            if generation == self._generation:
                sink.shutdown(socket.SHUT_WR)
