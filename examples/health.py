"""Answers whether a site is heard: /health for supervisors, /metrics for Prometheus."""

import http.server
import json
import sys
import threading

from microgrid_sync import MicrogridApiClient, StreamStats

SILENT = 30.0


def is_heard(stream: StreamStats) -> bool:
    """Tell whether a component has sent something a moment ago."""
    return stream.age_s is not None and stream.age_s < SILENT


def serve(client: MicrogridApiClient, port: int) -> http.server.ThreadingHTTPServer:
    """Answer on a port of this machine, in a thread."""

    class Answers(http.server.BaseHTTPRequestHandler):
        """What is asked for."""

        def do_GET(self) -> None:
            """Answer."""
            stats = client.stats()
            heard = bool(stats.streams) and all(map(is_heard, stats.streams))
            heard = heard and stats.failing_since is None
            if self.path == "/metrics":
                lines = [f"microgrid_calls_total {stats.calls}"]
                for stream in stats.streams:
                    label = f'{{component="{stream.component_id}"}}'
                    lines.append(f"microgrid_messages_total{label} {stream.messages}")
                    lines.append(f"microgrid_up{label} {int(is_heard(stream))}")
                text = "\n".join(lines) + "\n"
            else:
                text = json.dumps({"ok": heard, "state": client.state.value})
            self.send_response(200 if heard or self.path == "/metrics" else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answers)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def main(url: str, port: int) -> None:
    """Follow all meters, and answer until Ctrl-C."""
    with MicrogridApiClient(url) as client:
        meters = [c.component_id for c in client.components() if c.category.name == "METER"]
        with client.subscribe(meters, lambda _: None):
            server = serve(client, port)
            print(f"http://127.0.0.1:{server.server_port}/health", flush=True)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                server.shutdown()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: health.py grpc://host:port HTTP_PORT")
    main(sys.argv[1], int(sys.argv[2]))
