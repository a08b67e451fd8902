"""What a program sees that speaks to OpenAI's SDK over WebSockets: directly, and the same through Spillway."""

import asyncio

import openai
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from harness import FAILURES_TO_OPEN, TEXT, eventually

MODEL = "mock-realtime"
ASKED = {"type": "response.create"}


@pytest.fixture(params=["directly", "through"])
def base_url(request, provider, spillway):
    """The provider itself, and Spillway before it."""
    return f"{provider.url}/v1" if request.param == "directly" else f"{spillway.url}/openai/v1"


def client(base_url):
    return openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=0)


def answer_of(connection):
    """The text of one answer, and its usage."""
    connection.send(ASKED)
    text = ""
    for event in connection:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.done":
            return text, event.response.usage


def test_a_session_is_opened_and_asked_more_than_once(base_url):
    with client(base_url).realtime.connect(model=MODEL) as connection:
        created = connection.recv()
        assert (created.type, created.session.model) == ("session.created", MODEL)
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        assert connection.recv().type == "session.updated"
        for _ in range(3):
            text, usage = answer_of(connection)
            assert text == TEXT
            assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0


def test_an_asynchronous_session_is_the_same(base_url):
    async def session():
        events = []
        async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-test") as asking:
            async with asking.realtime.connect(model=MODEL) as connection:
                await connection.send(ASKED)
                async for event in connection:
                    events.append(event)
                    if event.type == "response.done":
                        return events

    events = asyncio.run(session())
    assert events[0].type == "session.created"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT


def test_messages_are_compressed_where_both_sides_like_that(base_url):
    options = {"max_size": 1 << 20, "compression": "deflate"}
    with client(base_url).realtime.connect(model=MODEL, websocket_connection_options=options) as connection:
        assert connection.recv().type == "session.created"
        assert answer_of(connection)[0] == TEXT


def test_responses_come_over_a_websocket_too(base_url):
    with client(base_url).responses.connect() as connection:
        connection.send({"type": "response.create", "model": "mock-small", "input": "Hello?"})
        text, usage = "", None
        for event in connection:
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.completed":
                usage = event.response.usage
                break
    assert text == TEXT
    assert usage.total_tokens > 0


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [("fail?status=401", 401), ("fail?status=404", 404), ("rate-limit?retry_after_s=2", 429), ("overload", 503)],
)
def test_a_refused_handshake_says_what_the_provider_says(provider, base_url, behaviour, status):
    provider.behaves(behaviour)
    with pytest.raises(InvalidStatus) as refused:
        client(base_url).realtime.connect(model=MODEL).enter()
    response = refused.value.response
    assert response.status_code == status
    assert b'"error"' in response.body


def test_a_session_that_breaks_off_does_so_here_as_well(provider, base_url):
    provider.behaves("cut-stream")
    with pytest.raises(ConnectionClosedError) as broken:
        with client(base_url).realtime.connect(model=MODEL) as connection:
            answer_of(connection)
    assert broken.value.rcvd is None, "nobody has said goodbye"


def test_what_a_session_uses_is_counted(provider, spillway):
    with client(f"{spillway.url}/openai/v1").realtime.connect(model=MODEL) as connection:
        usage = answer_of(connection)[1]
    name = 'spillway_tokens_total{upstream="openai",direction="output"}'
    counted = eventually("its usage is counted", lambda: spillway.metric(name))
    assert counted == usage.output_tokens
    assert eventually("it is closed", lambda: spillway.metric('spillway_sockets_total{upstream="openai",end="closed"}')) == 1


def test_where_handshakes_fail_the_next_one_is_refused_without_a_call(provider, spillway):
    provider.behaves("fail?status=500")
    asking = client(f"{spillway.url}/openai/v1")
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(InvalidStatus):
            asking.realtime.connect(model=MODEL).enter()
    calls = provider.requests()
    with pytest.raises(InvalidStatus) as refused:
        asking.realtime.connect(model=MODEL).enter()
    response = refused.value.response
    assert response.status_code == 500, "as the provider said"
    assert response.headers["x-spillway-refusal"] == "spillway_circuit_open"
    assert provider.requests() == calls
