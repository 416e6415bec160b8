"""The registry client against a registry of ours, in this process, and against a real one when there is one:

STREAMS_TEST_REGISTRY=http://127.0.0.1:18081/apis/ccompat/v7 pytest -m registry tests/codec
"""

import asyncio
import base64
import json
import os
import uuid
from collections.abc import AsyncIterator

import avro.schema
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from streams.codec.avro import Codec, Schema
from streams.codec.errors import AvroError, SchemaNeeded
from streams.codec.registry import Registry
from streams.errors import BrokerError, ConfigurationError

from .samples import SCHEMAS

INVOCATION = SCHEMAS.current["Invocation"].text
DATUM = {"function": "resize", "event": b"{}"}


class OwnRegistry:
    """A registry as small as the part of the API that we use."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.authorization: str | None = None
        self.compatibility: dict[str, str] = {}
        self.texts: list[str] = []
        self.subjects: dict[str, list[str]] = {}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.noted])
        app.router.add_put("/api/config/{subject}", self.configure)
        app.router.add_post("/api/subjects/{subject}/versions", self.register)
        app.router.add_get("/api/schemas/ids/{id}", self.schema)
        return app

    @web.middleware
    async def noted(self, request, handler):
        self.requests.append((request.method, request.path))
        self.authorization = request.headers.get("Authorization")
        return await handler(request)

    async def configure(self, request):
        level = (await request.json())["compatibility"]
        self.compatibility[request.match_info["subject"]] = level
        return web.json_response({"compatibility": level})

    async def register(self, request):
        subject, text = request.match_info["subject"], (await request.json())["schema"]
        versions = self.subjects.setdefault(subject, [])
        if self.compatibility.get(subject) == "FULL_TRANSITIVE" and not all(compatible(text, old) for old in versions):
            return web.json_response({"error_code": 409, "message": "the field is not there"}, status=409)
        versions.append(text)
        if text not in self.texts:
            self.texts.append(text)
        return web.json_response({"id": self.texts.index(text) + 1})

    async def schema(self, request):
        number = int(request.match_info["id"])
        if number > len(self.texts):
            return web.json_response({"error_code": 40403, "message": "Schema not found"}, status=404)
        return web.json_response({"schema": self.texts[number - 1]})


def compatible(one: str, other: str) -> bool:
    checker, schemas = ReaderWriterCompatibilityChecker(), (avro.schema.parse(one), avro.schema.parse(other))
    answers = (checker.get_compatibility(*schemas), checker.get_compatibility(*reversed(schemas)))
    return all(answer.compatibility is SchemaCompatibilityType.compatible for answer in answers)


@pytest.fixture
async def own() -> AsyncIterator[tuple[OwnRegistry, str]]:
    registry = OwnRegistry()
    async with TestServer(registry.app()) as server:
        yield registry, str(server.make_url("/api"))


@pytest.fixture(params=["own", pytest.param("real", marks=pytest.mark.registry)])
def url(request: pytest.FixtureRequest) -> str:
    """The contract below holds for ours and for a real one."""
    if request.param == "own":
        return request.getfixturevalue("own")[1]
    if "STREAMS_TEST_REGISTRY" not in os.environ:
        pytest.skip("STREAMS_TEST_REGISTRY names no schema registry")
    return os.environ["STREAMS_TEST_REGISTRY"]


@pytest.fixture
def topic() -> str:
    return f"test-{uuid.uuid4()}"


async def test_a_schema_is_registered_once_and_fetched_by_its_id(url, topic):
    async with Registry(url) as registry, Registry(url) as other:
        schema_id = await registry.register(topic, INVOCATION)

        assert await registry.register(topic, INVOCATION) == schema_id
        assert other.fetched(schema_id) is None
        assert json.loads(await other.schema(schema_id)) == json.loads(INVOCATION)
        assert other.fetched(schema_id) == await other.schema(schema_id)


@pytest.mark.parametrize("name", sorted(SCHEMAS.current))
async def test_every_schema_of_ours_can_be_registered(url, topic, name):
    schema = SCHEMAS.current[name]

    async with Registry(url) as registry, Registry(url) as other:
        fetched = await other.schema(await registry.register(topic, schema.text))

    assert Schema.parse(fetched).fingerprint == schema.fingerprint


async def test_a_record_written_with_one_client_is_read_with_another(url, topic):
    async with Registry(url) as registry, Registry(url) as other:
        writer = Codec(SCHEMAS, {topic: await registry.register(topic, INVOCATION)})
        reader = Codec(SCHEMAS, lookup=other.fetched)
        data = writer.encode("Invocation", DATUM, topic)

        with pytest.raises(SchemaNeeded) as needed:
            reader.decode(data)
        await other.schema(needed.value.schema_id)

        assert reader.decode(data)[1]["function"] == "resize"


async def test_a_schema_may_gain_a_field_with_a_default_and_no_other(url, topic):
    extended = json.loads(INVOCATION)
    extended["fields"].append({"name": "tomorrow", "type": ["null", "string"], "default": None})
    broken = json.loads(INVOCATION)
    broken["fields"].append({"name": "tomorrow", "type": "string"})

    async with Registry(url) as registry:
        schema_id = await registry.register(topic, INVOCATION)
        assert await registry.register(topic, json.dumps(extended)) != schema_id

        with pytest.raises(ConfigurationError, match="not FULL_TRANSITIVE with earlier ones"):
            await registry.register(topic, json.dumps(broken))


async def test_an_unknown_id_is_bad_input(url):
    async with Registry(url) as registry:
        with pytest.raises(AvroError, match="no schema 2000000000"):
            await registry.schema(2_000_000_000)


async def test_compatibility_is_set_before_the_first_version(own, topic):
    server, url = own
    async with Registry(url) as registry:
        schema_id = await registry.register(topic, INVOCATION)
        await registry.schema(schema_id)

    assert server.requests == [
        ("PUT", f"/api/config/{topic}-value"),
        ("POST", f"/api/subjects/{topic}-value/versions"),
    ]
    assert server.compatibility == {f"{topic}-value": "FULL_TRANSITIVE"}
    assert server.authorization is None


async def test_user_and_password_come_from_the_url(own):
    server, url = own
    async with Registry(url.replace("://", "://me:p%40ss@")) as registry:
        await registry.register("t", INVOCATION)

    assert server.authorization == "Basic " + base64.b64encode(b"me:p@ss").decode()


async def test_a_wrong_path_is_no_missing_schema(own):
    _, url = own
    async with Registry(url.removesuffix("/api")) as registry:
        for call in (lambda: registry.schema(1), lambda: registry.register("t", INVOCATION)):
            with pytest.raises(ConfigurationError, match="look at the path"):
                await call()


@pytest.mark.parametrize("url", ["", "registry:8081", "ftp://host/", "http://", "http://[::", "http://host:port"])
def test_an_address_must_be_one(url):
    with pytest.raises(ConfigurationError, match="registry's URL"):
        Registry(url)


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (401, "", ConfigurationError, "put user and password"),
        (403, "", ConfigurationError, "right to register"),
        (409, '{"message": "type changed"}', ConfigurationError, "FULL_TRANSITIVE.* type changed"),
        (422, '{"message": "what is this"}', ConfigurationError, "does not accept the schema. what is this"),
        (500, "[]", BrokerError, "with 500. \\[\\]"),
        (503, "busy", BrokerError, "with 503. busy"),
        (200, "<html>", BrokerError, "not JSON"),
        (200, "[1]", BrokerError, "has no id"),
        (200, '{"id": "7"}', BrokerError, "has no id"),
    ],
)
async def test_other_answers_say_what_is_wrong(status, body, error, message):
    async def answer(request):
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).replace("://", "://me:secret@")
        async with Registry(url) as registry:
            with pytest.raises(error, match=message) as raised:
                await registry.register("t", INVOCATION)
    assert "secret" not in str(raised.value)


async def test_a_registry_that_is_not_there_or_does_not_answer():
    async with Registry(f"http://127.0.0.1:{unused_port()}") as registry:
        with pytest.raises(BrokerError, match="cannot be reached"):
            await registry.schema(1)

    async def answer(request):
        await asyncio.sleep(60)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0)
    async with Registry(str(server.make_url("/")), timeout_s=0.05) as registry:
        with pytest.raises(BrokerError, match=r"took over 0\.05 s"):
            await registry.schema(1)
    await server.close()
