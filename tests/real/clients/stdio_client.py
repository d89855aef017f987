"""The protocol's own Python client over stdio: stdio_client.py NAMESPACE DEPLOYMENT COMMAND... Prints as JSON what it was told.

It checks each structured answer against the schema of its tool by itself.
"""
import asyncio
import json
import os
import re
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import Implementation


async def main(namespace, name, *command):
    server = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(os.environ))
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write, client_info=Implementation(name="visitor", version="1")) as session:
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]

            async def call(tool, **arguments):
                answer = await session.call_tool(tool, arguments)
                return {"text": "".join(part.text for part in answer.content), "failed": answer.isError, "told": answer.structuredContent}

            workload = {"namespace": namespace, "kind": "Deployment", "name": name}
            seen = await call("get_workload", **workload)
            # A pod whose image cannot be pulled has none.
            for pod in dict.fromkeys(re.findall(rf"\b{name}-[a-z0-9]+-[a-z0-9]+\b", seen["text"])):
                log = await call("pod_logs", namespace=namespace, pod=pod)
                if not log["failed"]:
                    break
            asked = await call("rollout_restart", **workload)
            state = await call("get_approval", approval_id=asked["told"].get("approval_id", "none"))
    print(json.dumps({"tools": tools, "seen": seen, "log": log, "asked": asked, "state": state}))


asyncio.run(main(*sys.argv[1:]))
