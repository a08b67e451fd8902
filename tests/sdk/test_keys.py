"""What a program sees of virtual keys that uses an official SDK: it shows one where it would show a provider's."""

import json
import subprocess

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from harness import HELLO, MODEL, TEXT, Spillway, eventually, http, refusing_socket

def demanding_keys(provider_url: str) -> str:
    return f'\n[upstreams.gemini]\nurl = "{provider_url}"\n[keys]\nrequired = true\n[ledger]\nunpriced = "allow"\n'


@pytest.fixture
def demanding(provider, tmp_path):
    """A Spillway where every caller shows a key."""
    with refusing_socket() as gone:
        unreachable = f"http://127.0.0.1:{gone.getsockname()[1]}"
        spillway = Spillway(provider.url, unreachable, tmp_path, more=demanding_keys(provider.url))
        yield spillway
        spillway.stop()


@pytest.fixture
def key(demanding, tmp_path):
    """Runs `spillway key …`, and returns what it prints."""

    def run(*words):
        command = [demanding.binary, "key", "--config", str(tmp_path / "spillway.toml"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return run


def made(demanding, key, *words):
    """A new key, once it counts."""
    secret = key("new", *words)
    expected = sum(one["state"] == "valid" for one in json.loads(key("ls", "--json"))["keys"])
    status = f"{demanding.admin_url}/status"
    eventually("the key to be in force", lambda: http("GET", status)["keys"]["valid"] == expected)
    return secret


def openai_with(demanding, secret):
    return openai.OpenAI(base_url=f"{demanding.url}/openai/v1", api_key=secret, timeout=30)


def anthropic_with(demanding, secret):
    return anthropic.Anthropic(base_url=f"{demanding.url}/anthropic", api_key=secret, timeout=30)


def gemini_with(demanding, secret):
    options = types.HttpOptions(base_url=f"{demanding.url}/gemini")
    return genai.Client(api_key=secret, http_options=options)


def test_each_sdk_is_served_with_a_key_in_the_place_of_its_providers(demanding, key):
    secret = made(demanding, key, "--name", "shop")
    with openai_with(demanding, secret) as client:
        assert client.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content == TEXT
        pieces = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == TEXT
    with anthropic_with(demanding, secret) as client:
        assert client.messages.create(model=MODEL, max_tokens=64, messages=HELLO).content[0].text == TEXT
    with gemini_with(demanding, secret) as client:
        assert client.models.generate_content(model=MODEL, contents="Hello?").text == TEXT


def test_a_key_that_does_not_count_raises_what_a_wrong_key_raises_and_is_not_tried_again(demanding, key, provider):
    made(demanding, key)
    with openai_with(demanding, "sk-spillway-wrong") as client, pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert refused.value.code == "spillway_key_refused"
    with anthropic_with(demanding, "sk-spillway-wrong") as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
    with gemini_with(demanding, "sk-spillway-wrong") as client, pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=MODEL, contents="Hello?")
    assert refused.value.code == 401
    assert provider.requests() == 0


def test_a_model_that_a_key_is_not_for_raises_what_a_forbidden_one_raises(demanding, key, provider):
    secret = made(demanding, key, "--models", "other-*")
    with openai_with(demanding, secret) as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert "other-*" in refused.value.message
    with anthropic_with(demanding, secret) as client, pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
    with gemini_with(demanding, secret) as client, pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=MODEL, contents="Hello?")
    assert refused.value.code == 403
    assert provider.requests() == 0
