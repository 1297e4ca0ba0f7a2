"""Who may ask the server: hosts, origins, tokens, and the headers of every answer."""

from typing import Any

import pytest
from starlette.testclient import TestClient
from viewer_world import World, application

from secondlens.viewer.server.guard import COOKIE, Access, host_name, is_loopback

TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def open_to_all(world: World) -> Any:
    return application(world, Access.of("0.0.0.0", ["lens.example"], TOKEN))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "[::2]", "192.168.0.1:80"]
)
def test_another_hosts_name_is_refused(client: Any, host: str) -> None:
    answer = client.get("/api/status", headers={"host": host})
    assert answer.status_code == 421
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8117", "127.0.0.1:9", "[::1]:80"])
def test_this_machines_names_are_known(client: Any, host: str) -> None:
    assert client.get("/api/status", headers={"host": host}).status_code == 200


def test_other_sites_pages_are_refused(client: Any) -> None:
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert client.get("/api/status", headers=headers).status_code == 403, headers
    assert client.get("/api/status", headers={"origin": "http://localhost:8117"}).status_code == 200
    # A link on another site may open the viewer, only not its API.
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_every_answer_has_the_headers(client: Any) -> None:
    for path in ("/", "/api/status", "/nothing", "/data/site.json"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
    assert client.get("/", headers={"host": "evil.example"}).headers["x-content-type-options"] == "nosniff"


def test_beyond_this_machine_a_token_is_needed(open_to_all: Any) -> None:
    with TestClient(open_to_all, base_url="http://10.0.0.7") as client:
        for path in (
            "/",
            "/app.js",
            "/api/status",
            "/api/openapi.json",
            "/data/site.json",
            "/?token=",
            "/?token=wrong",
        ):
            assert client.get(path, follow_redirects=False).status_code == 401, path
        for value in ("wrong", TOKEN[:-1], TOKEN + "x", "é", ""):
            wrong = {"authorization": f"Bearer {value}".encode()}
            assert client.get("/api/status", headers=wrong).status_code == 401
            assert client.get("/", headers={"cookie": f"{COOKIE}={value}".encode()}).status_code == 401
        assert client.get("/api/status", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/", headers={"host": "evil.example", "authorization": f"Bearer {TOKEN}"}).status_code == 421
        assert client.get("/", headers={"host": "lens.example", "authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_tokens_address_becomes_a_cookie(open_to_all: Any) -> None:
    with TestClient(open_to_all, base_url="http://10.0.0.7") as client:
        answer = client.get(f"/?token={TOKEN}&x=1", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/?x=1")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/api/status").status_code == 200
        away = client.get(f"//evil.example/?token={TOKEN}", follow_redirects=False)
        assert not away.headers.get("location", "").startswith("//")


def test_a_token_is_made_where_none_is_given() -> None:
    first, second = Access.of("0.0.0.0"), Access.of("192.168.1.5")
    assert first.token != second.token
    assert len(first.token or "") >= 32
    assert first.token not in repr(first)
    assert Access.of("127.0.0.1").token is None
    assert Access.of("::1").token is None
    assert Access.of("127.0.0.1", token="wanted").token == "wanted"


def test_names_and_addresses() -> None:
    assert [host_name(host) for host in ("A.b:80", "[::1]:80", "[::1]", "a", "::1")] == [
        "a.b",
        "[::1]",
        "[::1]",
        "a",
        "::1",
    ]
    assert is_loopback("127.8.9.1")
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("localhost.evil.example")
