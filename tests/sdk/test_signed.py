"""Requests that Amazon's own library signs reach their service as they were signed: who they go to recomputes the
signature over what has arrived."""

import base64
import http.client
import json
import threading
from binascii import crc32
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from struct import pack
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import LOOPBACK, Spillway, binary, refusing_socket

KEYS = Credentials("AKIDEXAMPLE", "secret-example", "session-token-example")
REGION = "eu-west-1"
# A name and an inference profile, whose colons and slashes are encoded in the path.
MODELS = ["anthropic.claude-3-haiku-20240307-v1:0", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.claude:0"]
ANSWER = {"content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 3, "output_tokens": 1}}


def _message(payload: dict) -> bytes:
    """One message of Amazon's binary streams, as its `botocore.eventstream` reads it."""
    def header(name: str, value: str) -> bytes:
        return pack("!B", len(name)) + name.encode() + pack("!BH", 7, len(value)) + value.encode()

    headers = header(":event-type", "chunk") + header(":message-type", "event")
    headers += header(":content-type", "application/json")
    body = json.dumps(payload).encode()
    prelude = pack("!II", 12 + len(headers) + len(body) + 4, len(headers))
    message = prelude + pack("!I", crc32(prelude)) + headers + body
    return message + pack("!I", crc32(message))


class Service(BaseHTTPRequestHandler):
    """Serves who has signed rightly, as Amazon does: over method, path, query, body and the headers that it names."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, self.headers["host"], dict(self.headers.items()), body))
        if self.headers["authorization"] != self._signed(body) and not self._shows_key():
            self._answer(403, json.dumps({"message": "The request signature we calculated does not match."}).encode())
        elif self.path.endswith("-stream"):
            chunks = [base64.b64encode(json.dumps({"n": n}).encode()).decode() for n in range(3)]
            stream = b"".join(_message({"bytes": chunk}) for chunk in chunks)
            self._answer(200, stream, "application/vnd.amazon.eventstream")
        else:
            self._answer(200, json.dumps(ANSWER).encode())

    def _shows_key(self) -> bool:
        return self.headers["authorization"] == "Bearer bedrock-api-key-example"

    def _signed(self, body: bytes) -> str:
        shown = self.headers.get("authorization", "")
        names = shown.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        request = AWSRequest("POST", f"http://{self.headers['host']}{self.path}", headers, body)
        request.context["timestamp"] = self.headers.get("x-amz-date", "")
        auth = SigV4Auth(KEYS, "bedrock", REGION)
        canonical = auth.canonical_request(request)
        to_sign = auth.string_to_sign(request, canonical)
        scope = auth.scope(request)
        signature = auth.signature(to_sign, request)
        return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={';'.join(names)}, Signature={signature}"

    def _answer(self, status: int, body: bytes, content_type: str = "application/json"):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def spillway_before(service, folder, extra=""):
    """A Spillway whose upstream `bedrock` is that service."""
    url = f"http://127.0.0.1:{service.server_port}"
    with refusing_socket() as gone:
        spillway = Spillway(url, f"http://127.0.0.1:{gone.getsockname()[1]}", folder, LOOPBACK, f"""
[upstreams.bedrock]
url = "{url}"
{extra}
""")
        try:
            yield spillway, url
        finally:
            spillway.stop()


def client(endpoint: str, spillway=None, **config):
    """Amazon's client, which connects through a proxy if there is one."""
    proxies = {"http": spillway.url} if spillway else {}
    return boto3.client(
        "bedrock-runtime",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
        aws_session_token=KEYS.token,
        config=Config(proxies=proxies, retries={"total_max_attempts": 1}, **config),
    )


def send_elsewhere(amazon, spillway):
    """Sends what is signed for the service to Spillway, as docs/answers.md shows it."""

    def redirect(request, **_):
        at = urlsplit(request.url)
        request.url = f"{spillway.url}/bedrock{at.path}" + (f"?{at.query}" if at.query else "")

    amazon.meta.events.register("before-send.bedrock-runtime", redirect)
    return amazon


def invoke(amazon, model: str) -> dict:
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": []})
    return json.loads(amazon.invoke_model(modelId=model, body=body)["body"].read())


@pytest.mark.parametrize("model", MODELS)
def test_a_signature_holds_where_spillway_is_the_proxy_on_the_way(service, tmp_path, model):
    with spillway_before(service, tmp_path) as (spillway, url):
        assert invoke(client(url), model) == ANSWER
        assert invoke(client(url, spillway), model) == ANSWER
        amazon = client(url, spillway)
        streamed = amazon.invoke_model_with_response_stream(modelId=model, body="{}")["body"]
        assert [json.loads(event["chunk"]["bytes"]) for event in streamed] == [{"n": n} for n in range(3)]
        direct, through, _ = service.seen
        assert direct[0] == through[0] and direct[1] == through[1] and direct[3] == through[3]
        assert "via" not in {name.lower() for name in direct[2]} and "spillway" in through[2]["via"]


@pytest.mark.parametrize("model", MODELS)
def test_a_signature_holds_where_what_is_signed_is_sent_to_spillway(service, tmp_path, model):
    with spillway_before(service, tmp_path) as (spillway, url):
        assert invoke(send_elsewhere(client(url), spillway), model) == ANSWER


def test_what_is_signed_for_spillway_itself_is_refused_by_the_service_in_its_words(service, tmp_path):
    with spillway_before(service, tmp_path) as (spillway, _):
        with pytest.raises(ClientError, match="signature we calculated does not match"):
            invoke(client(f"{spillway.url}/bedrock"), MODELS[0])


def test_a_key_of_bedrocks_needs_no_signature(service, tmp_path, monkeypatch):
    with spillway_before(service, tmp_path) as (spillway, _):
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-example")
        # It is shown to encrypted addresses only, so that Bedrock's own stands there until the request is sent.
        amazon = boto3.client("bedrock-runtime", region_name=REGION)
        assert invoke(send_elsewhere(amazon, spillway), MODELS[1]) == ANSWER


def test_where_a_signed_request_would_have_to_be_changed_it_is_refused(service, tmp_path):
    route = f"""
[routes.other]
model = "mine"
targets = ["bedrock/other"]
"""
    with spillway_before(service, tmp_path, route) as (spillway, url):
        body = json.dumps({"model": "mine", "messages": []}).encode()
        request = AWSRequest("POST", f"{url}/v1/chat/completions", {"content-type": "application/json"}, body)
        SigV4Auth(KEYS, "bedrock", REGION).add_auth(request)
        connection = http.client.HTTPConnection(spillway.listen)
        connection.request("POST", "/v1/chat/completions", body, dict(request.headers.items()))
        answer = connection.getresponse()
        said = json.loads(answer.read())
        assert answer.status == 400 and "signed" in said["error"]["message"], said
        assert service.seen == []
