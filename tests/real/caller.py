"""An MCP client over HTTP, as bare as can be: what a story asks firstlook's own gate."""
import json

import jsonschema
from parts import request


class Caller:
    """An MCP client over HTTP, as bare as can be."""

    def __init__(self, url):
        self.url, self.number, self.session = url, 0, {}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "story", "version": "1"}}
        answer = self.send({"method": "initialize", "params": hello})
        if session := answer.headers.get("mcp-session-id"):
            self.session = {"Mcp-Session-Id": session}
        self.send({"method": "notifications/initialized"}, notify=True)
        self.tools = {tool["name"]: tool for tool in self.result({"method": "tools/list", "params": {}})["tools"]}

    def send(self, message, notify=False):
        self.number += 1
        message = {"jsonrpc": "2.0", **message, **({} if notify else {"id": self.number})}
        headers = {"Accept": "application/json, text/event-stream", **self.session}
        return request("POST", self.url, message, headers)

    def result(self, message):
        """The result of a request; it comes as JSON or as the last event of a stream."""
        answer = self.send(message)
        assert answer.status == 200, answer.text
        lines = [line[5:] for line in answer.text.splitlines() if line.startswith("data:") and len(line) > 6] or [answer.text]
        return json.loads(lines[-1])["result"]

    def call(self, tool, fails=False, **arguments):
        """The text that a tool answers. What it answers for programs holds to the schema that the tool itself shows."""
        result = self.result({"method": "tools/call", "params": {"name": tool, "arguments": arguments}})
        text = "".join(part.get("text", "") for part in result["content"])
        if structured := result.get("structuredContent"):
            jsonschema.validate(structured, self.tools[tool]["outputSchema"])
        assert bool(result.get("isError")) == fails, text
        return text
