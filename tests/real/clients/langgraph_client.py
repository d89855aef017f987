"""LangGraph's ReAct agent with the tools of an MCP server: langgraph_client.py MCP_URL TOKEN MODEL_URL PROMPT. Prints its last message."""
import asyncio
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent


async def main(url, token, model_url, prompt):
    servers = {"firstlook": {"transport": "streamable_http", "url": url, "headers": {"Authorization": f"Bearer {token}"}}}
    model = ChatOpenAI(base_url=model_url, api_key="x", model="gpt-4o")
    agent = create_react_agent(model, await MultiServerMCPClient(servers).get_tools())
    answer = await agent.ainvoke({"messages": [("user", prompt)]})
    print(answer["messages"][-1].content)


asyncio.run(main(*sys.argv[1:]))
