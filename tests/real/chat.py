"""A model's server: OpenAI-compatible, streaming or not, as the client wants it. What it says, a story decides by the conversation alone."""
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """What listens on a loopback port for as long as the context lasts. `target` is host:port."""

    def __init__(self, handler):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.target = f"127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class ChatServer(Served):
    """Answers each request with `message(body)`, so that one repeated after a crash gets the same. A context manager; `url` has `/v1`, `requests` holds the bodies, `logins` the Authorization of each."""

    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}

    def __init__(self):
        self.requests, self.logins = [], []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send({"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                chat.requests.append(body)
                chat.logins.append(self.headers.get("authorization"))
                message = chat.message(body)
                answer = {"id": f"chatcmpl-{len(body['messages'])}", "created": int(time.time()), "model": body.get("model", "gpt-4o")}
                finish = "tool_calls" if message.get("tool_calls") else "stop"
                if not body.get("stream"):
                    choice = {"index": 0, "message": message, "finish_reason": finish}
                    return self.send({**answer, "object": "chat.completion", "choices": [choice], "usage": chat.usage})
                calls = [{"index": i, **call} for i, call in enumerate(message.get("tool_calls", []))]
                delta = {**message, "tool_calls": calls} if calls else message
                chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
                          {"choices": [], "usage": chat.usage}]
                lines = [json.dumps({**answer, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
                self.send_bytes("".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode(), "text/event-stream")

            def send(self, value):
                self.send_bytes(json.dumps(value).encode(), "application/json")

            def send_bytes(self, data, kind):
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass
        super().__init__(Handler)
        self.url = f"http://{self.target}/v1"


def calling(*calls):
    """A message that calls these tools: (id, name, arguments) each."""
    return {"role": "assistant", "content": None,
            "tool_calls": [{"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}} for i, name, arguments in calls]}
