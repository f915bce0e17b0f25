"""The documentation that the server gives of itself."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Running

PUBLIC = {
    ("post", "/v1/auth/nonce"),
    ("post", "/v1/auth/session"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/v1/oddities"),
    ("get", "/v1/overview"),
    ("get", "/v1/models/{digest}/bundle"),
}
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture
def schema(server: Running) -> dict[str, Any]:
    answer: dict[str, Any] = server.http.get("/v1/openapi.json").json()
    return answer


def operations(schema: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def resolved(schema: dict[str, Any], part: Any) -> str:
    """Return a part of the schema as text, with what it refers to."""
    text = json.dumps(part)
    for name, component in schema["components"]["schemas"].items():
        text = text.replace(f'"#/components/schemas/{name}"', json.dumps(component))
    return text


def test_each_operation_has_a_title_and_a_text(schema: dict[str, Any]) -> None:
    for method, path, operation in operations(schema):
        assert operation["summary"], (method, path)
        assert operation["description"].endswith("."), (method, path)
        assert operation["tags"], (method, path)


def test_each_operation_has_an_example(schema: dict[str, Any]) -> None:
    for method, path, operation in operations(schema):
        told = {key: operation.get(key) for key in ("parameters", "requestBody")}
        answers = {
            status: answer
            for status, answer in operation["responses"].items()
            if status.startswith("2")
        }
        has_one = '"example' in resolved(schema, [told, answers])
        assert has_one or (method, path) == ("delete", "/v1/auth/session"), (method, path)


def test_each_operation_that_is_not_public_asks_for_a_session(schema: dict[str, Any]) -> None:
    for method, path, operation in operations(schema):
        asks = operation.get("security") == [{"session": []}]
        assert asks != ((method, path) in PUBLIC), (method, path)


def test_each_operation_documents_its_problems(schema: dict[str, Any]) -> None:
    for method, path, operation in operations(schema):
        content = operation["responses"]["default"]["content"]
        assert "application/problem+json" in content, (method, path)
