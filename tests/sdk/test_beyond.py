"""What programs on other machines do, as from container to container: they show the access key beside their own."""

import anthropic
import openai
import pytest

from harness import HELLO, MODEL, TEXT, Spillway, refusing_socket

ACCESS_KEY = "access-key-0123456789"
SHOWN = {"x-spillway-access-key": ACCESS_KEY}


@pytest.fixture
def spillway(provider, tmp_path):
    """A Spillway that other machines reach."""
    (tmp_path / "access.key").write_text(ACCESS_KEY)
    server = 'listen = "0.0.0.0:0"\nplaintext = true\naccess_key_file = "access.key"'
    with refusing_socket() as gone:
        spillway = Spillway(provider.url, f"http://127.0.0.1:{gone.getsockname()[1]}", tmp_path, server)
        yield spillway
        spillway.stop()


def test_openais_sdk_shows_it_in_a_header_of_its_own(spillway, provider):
    base_url = f"{spillway.url}/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=0, default_headers=SHOWN) as client:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO)
        assert answer.choices[0].message.content == TEXT
    with openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=2) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert refused.value.code == "spillway_access_required"
        assert "x-spillway-access-key" in refused.value.message and "Prefer" not in refused.value.message
    assert provider.requests() == 1


def test_anthropics_sdk_shows_it_in_a_header_of_its_own(spillway, provider):
    base_url = f"{spillway.url}/anthropic"
    with anthropic.Anthropic(base_url=base_url, api_key="sk-test", max_retries=0, default_headers=SHOWN) as client:
        answer = client.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
        assert answer.content[0].text == TEXT
    with anthropic.Anthropic(base_url=base_url, api_key="sk-test", max_retries=2) as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            client.messages.create(model=MODEL, max_tokens=64, messages=HELLO)
        assert "x-spillway-access-key" in str(refused.value)
    assert provider.requests() == 1
