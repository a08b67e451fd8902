"""What programs on other machines do where Spillway has a certificate: they believe its authority, and say https."""

import asyncio
import shutil
import ssl
import subprocess

import anthropic
import httpx2
import openai
import pytest

from harness import HELLO, MODEL, TEXT, Spillway, refusing_socket

OPENSSL = shutil.which("openssl")


@pytest.fixture
def authority(tmp_path):
    """The file of an authority that has certified 127.0.0.1, and the lines that have Spillway show it."""
    name = ["-subj", "/CN=an authority of a test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *name]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run([OPENSSL, *made, "-addext", "basicConstraints=critical,CA:FALSE", *files], check=True, capture_output=True)
    return tmp_path / "certificate.pem"


@pytest.fixture
def spillway(provider, authority, tmp_path):
    """A Spillway that speaks TLS."""
    server = 'listen = "127.0.0.1:0"\ntls = { certificate = "certificate.pem", key = "key.pem" }'
    with refusing_socket() as gone:
        spillway = Spillway(provider.url, f"http://127.0.0.1:{gone.getsockname()[1]}", tmp_path, server)
        spillway.url = f"https://{spillway.listen}"
        yield spillway
        spillway.stop()


def trusting(authority, **more):
    return httpx2.Client(verify=ssl.create_default_context(cafile=str(authority)), **more)


def test_openais_sdk_streams_over_https(spillway, authority):
    with openai.OpenAI(base_url=f"{spillway.url}/openai/v1", api_key="sk-test", http_client=trusting(authority)) as client:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO)
        assert answer.choices[0].message.content == TEXT
        chunks = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT


def test_anthropics_sdk_streams_over_https(spillway, authority):
    base_url = f"{spillway.url}/anthropic"
    with anthropic.Anthropic(base_url=base_url, api_key="sk-test", http_client=trusting(authority)) as client:
        with client.messages.stream(model=MODEL, max_tokens=64, messages=HELLO) as stream:
            assert "".join(stream.text_stream) == TEXT


def test_who_does_not_believe_the_authority_says_so(spillway):
    with openai.OpenAI(base_url=f"{spillway.url}/openai/v1", api_key="sk-test", max_retries=0) as client:
        with pytest.raises(openai.APIConnectionError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert "CERTIFICATE_VERIFY_FAILED" in repr(refused.value.__cause__)


def test_who_says_http_is_told_to_say_https(spillway):
    base_url = f"http://{spillway.listen}/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert refused.value.code == "spillway_tls" and "https://" in refused.value.message


def test_openais_realtime_speaks_wss(spillway, authority):
    # Not by the client that blocks: over TLS it reads and writes in two threads at once, which at times loses what is
    # written, with any server.
    async def first_event():
        tls = ssl.create_default_context(cafile=str(authority))
        async with openai.AsyncOpenAI(base_url=f"{spillway.url}/openai/v1", api_key="sk-test") as client:
            connecting = client.realtime.connect(model="mock-realtime", websocket_connection_options={"ssl": tls})
            async with connecting as connection:
                return await connection.recv()

    assert asyncio.run(first_event()).type == "session.created"
