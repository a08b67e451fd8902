"""A provider and a Spillway of its own for each test, so that no circuit, quota or job is left from another one."""

import os

import anthropic
import openai
import pytest

from harness import Provider, Spillway, refusing_socket

# Neither somebody's real credentials nor a proxy for the outside world have any business here.
for name in list(os.environ):
    if name.startswith(("OPENAI_", "ANTHROPIC_", "AWS_")) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
        del os.environ[name]


@pytest.fixture
def provider(tmp_path):
    provider = Provider(tmp_path)
    yield provider
    provider.stop()


@pytest.fixture
def spillway(provider, tmp_path):
    with refusing_socket() as gone:
        spillway = Spillway(provider.url, f"http://127.0.0.1:{gone.getsockname()[1]}", tmp_path)
        yield spillway
        spillway.stop()


@pytest.fixture
def openai_at(spillway):
    """Makes OpenAI clients for an upstream. They do not retry unless asked to, so that tests see every answer."""
    clients = []

    def make(upstream="openai", max_retries=0):
        base_url = f"{spillway.url}/{upstream}/v1"
        clients.append(openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=max_retries, timeout=30))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def anthropic_at(spillway):
    """Makes Anthropic clients, as `openai_at` does."""
    clients = []

    def make(upstream="anthropic", max_retries=0):
        base_url = f"{spillway.url}/{upstream}"
        clients.append(anthropic.Anthropic(base_url=base_url, api_key="sk-test", max_retries=max_retries, timeout=30))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
