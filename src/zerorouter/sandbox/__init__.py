"""A server that plays models: OpenAI's and Anthropic's APIs, without a model behind them.

    from zerorouter.sandbox import running_sandbox

    with running_sandbox(data=["my-records"], faults=["gpt-4o*:429@0.1"]) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")

Answers come from evaluation records where the prompt stands there, and are made up and marked
otherwise; both repeat exactly. What can be switched on: docs/sandbox.md. The server's packages
(``zerorouter[gateway]``) are imported when it is started.
"""

from zerorouter.sandbox.answering import Sandbox
from zerorouter.sandbox.app import create_app
from zerorouter.sandbox.faults import FAULTS, FaultRule, parse_rule
from zerorouter.sandbox.serving import RunningSandbox, running_sandbox, serve, serve_in_thread
from zerorouter.sandbox.settings import SandboxSettings

__all__ = [
    "FAULTS",
    "FaultRule",
    "RunningSandbox",
    "Sandbox",
    "SandboxSettings",
    "create_app",
    "parse_rule",
    "running_sandbox",
    "serve",
    "serve_in_thread",
]
