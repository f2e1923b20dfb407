"""The auth flow against a real server, each part of which can be broken."""

import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.auth import AuthFlow
from blocks.service import Service
from release.errors import Unreachable
from release.model import Check

PASSWORD = "correct-horse"
TOKEN = AuthFlow(username="probe", password=SecretStr(PASSWORD))
COOKIE = TOKEN.model_copy(update={"session": "cookie", "login_format": "form"})
ALL_STEPS = {"refresh_path": "/api/refresh", "logout_path": "/api/logout"}


class Backend:
    """Log in, be known, refresh, log out, be refused."""

    def __init__(self, server: HTTPServer) -> None:
        self.cookies = False
        self.status: dict[str, int] = {}  # by path: answered whatever is asked
        self.accepts: Callable[[str], bool] = lambda session: session in self.sessions
        self.answer: Callable[[str], Any] = lambda session: {"token": session}
        self.refusal = 401
        self.forgets = True  # what was logged out
        self.sessions: set[str] = set()
        self.issued: list[str] = []
        self.asked: list[tuple[str, str]] = []  # path and session
        self.received: list[Any] = []  # bodies
        for path, handler in {
            "/api/login": self.login,
            "/api/me": self.me,
            "/api/refresh": self.refresh,
            "/api/logout": self.logout,
        }.items():
            server.expect_request(path).respond_with_handler(self._noting(path, handler))

    def login(self, request: Request) -> Response:
        sent = request.form.to_dict() if request.form else request.get_json(silent=True) or {}
        self.received.append(sent)
        if PASSWORD not in sent.values():
            return Response(status=401)
        return self._begin()

    def me(self, request: Request) -> Response:
        known = self.accepts(self._session(request))
        return Response("me", 200) if known else Response("", self.refusal)

    def refresh(self, request: Request) -> Response:
        self.received.append(request.get_json(silent=True))
        session = self._session(request)
        if session not in self.sessions:
            return Response(status=401)
        self.sessions.discard(session)
        return self._begin()

    def logout(self, request: Request) -> Response:
        if self._session(request) not in self.sessions:
            return Response(status=401)
        if self.forgets:
            self.sessions.discard(self._session(request))
        return Response(status=204)

    def _begin(self) -> Response:
        session = f"s3cret-{secrets.token_hex(8)}"
        self.sessions.add(session)
        self.issued.append(session)
        if not self.cookies:
            return Response(json.dumps(self.answer(session)), 200)
        response = Response("", 302, headers={"Location": "/"})
        response.set_cookie("sid", session, secure=True, httponly=True, domain="example.com")
        return response

    def _session(self, request: Request) -> str:
        if self.cookies:
            return request.cookies.get("sid", "")
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    def _noting(
        self, path: str, handler: Callable[[Request], Response]
    ) -> Callable[[Request], Response]:
        def note(request: Request) -> Response:
            self.asked.append((path, self._session(request)))
            if path in self.status:
                return Response("", self.status[path])
            return handler(request)

        return note


@pytest.fixture
def backend(httpserver: HTTPServer) -> Backend:
    return Backend(httpserver)


@pytest.fixture
def check(httpserver: HTTPServer) -> Callable[[AuthFlow], Check]:
    def go(flow: AuthFlow) -> Check:
        service = Service(url=httpserver.url_for(""), request_timeout_s=2, auth=flow)
        found = service.auth_flow()
        assert found is not None
        return found

    return go


Go = Callable[[AuthFlow], Check]


def with_all(flow: AuthFlow, **more: object) -> AuthFlow:
    return flow.model_copy(update={**ALL_STEPS, **more})


class TestGood:
    def test_only_the_token_opens_the_door(self, backend: Backend, check: Go) -> None:
        assert check(TOKEN).passed
        backend.refusal = 403
        assert check(TOKEN).passed

    def test_every_step_is_gone_through_in_order(self, backend: Backend, check: Go) -> None:
        found = check(with_all(TOKEN))

        first, second = backend.issued
        assert found.passed
        assert backend.asked == [
            ("/api/login", ""),
            ("/api/me", first),
            ("/api/refresh", first),
            ("/api/me", second),
            ("/api/logout", second),
            ("/api/me", second),
            ("/api/me", ""),
            ("/api/me", "not-a-token"),
        ]
        assert found.sentence == (
            "good: login, with the token, refresh, with the refreshed token, log-out, "
            "refused with the token from before the log-out, refused without a token, "
            "refused with a wrong token"
        )

    @pytest.mark.parametrize(
        "flow",
        [TOKEN, with_all(TOKEN), with_all(TOKEN, logout_ends_session=False), with_all(COOKIE)],
    )
    def test_the_requests_of_a_check_are_known_beforehand(
        self, backend: Backend, check: Go, flow: AuthFlow
    ) -> None:
        """The router counts them too."""
        backend.cookies = flow.session == "cookie"

        assert check(flow).passed
        assert len(backend.asked) == flow.requests

    def test_a_cookie_session_is_known_by_what_the_login_sets(
        self, backend: Backend, check: Go
    ) -> None:
        """A cookie for the public name, secure, as an instance answers at an address of its own;
        and a stranger who has none, not even one of the login before."""
        backend.cookies, backend.refusal = True, 302  # to the login's page

        found = check(with_all(COOKIE))

        assert found.sentence.startswith("good: login, with the cookie")
        assert backend.asked[-2:] == [("/api/me", ""), ("/api/me", "not-a-token")]

    def test_a_refresh_that_sets_one_of_two_cookies_leaves_the_other(
        self, httpserver: HTTPServer, check: Go
    ) -> None:
        login = Response("", 302)
        login.set_cookie("sid", "one")
        login.set_cookie("xsrf", "two")
        refresh = Response("", 204)
        refresh.set_cookie("sid", "three")
        httpserver.expect_request("/api/login").respond_with_response(login)
        httpserver.expect_request("/api/refresh").respond_with_response(refresh)
        asked = []

        def me(request: Request) -> Response:
            asked.append(dict(request.cookies))
            known = request.cookies.get("xsrf") == "two" and request.cookies["sid"] != "not-a-token"
            return Response("", 200 if known else 401)

        httpserver.expect_request("/api/me").respond_with_handler(me)

        assert check(COOKIE.model_copy(update={"refresh_path": "/api/refresh"})).passed
        assert asked[:2] == [{"sid": "one", "xsrf": "two"}, {"sid": "three", "xsrf": "two"}]

    def test_what_is_sent_is_configured(self, backend: Backend, check: Go) -> None:
        backend.answer = lambda session: {"data": {"access": session, "renew": "r3new"}}
        flow = with_all(
            TOKEN,
            login_format="form",
            username_field="user",
            password_field="pass",
            login_fields={"grant_type": "password"},
            token_field="data.access",
            refresh_token_field="data.renew",
            refresh_field="renew_with",
        )

        assert check(flow).passed
        assert backend.received == [
            {"user": "probe", "pass": PASSWORD, "grant_type": "password"},
            {"renew_with": "r3new"},
        ]

    def test_a_token_can_stand_in_a_header_of_its_own(
        self, httpserver: HTTPServer, check: Go
    ) -> None:
        httpserver.expect_request("/api/login").respond_with_json({"token": "abc"})
        httpserver.expect_request("/api/me", headers={"X-Token": "abc"}).respond_with_data("me")
        httpserver.expect_request("/api/me").respond_with_data("", status=401)

        assert check(TOKEN.model_copy(update={"header": "X-Token", "scheme": ""})).passed

    def test_a_signed_token_may_outlive_its_log_out(self, backend: Backend, check: Go) -> None:
        backend.forgets = False

        assert check(with_all(TOKEN, logout_ends_session=False)).passed

    def test_without_an_account_there_is_nothing_to_check(self, httpserver: HTTPServer) -> None:
        service = Service(url=httpserver.url_for(""))

        assert service.auth_flow() is None
        assert service.auth_requests == 0


class TestBroken:
    @pytest.mark.parametrize(
        ("broken", "sentence"),
        [
            ({"status": {"/api/login": 500}}, "login answers HTTP 500"),
            ({"answer": lambda s: {"key": s}}, "login: no usable field 'token' in the answer"),
            (
                {"answer": lambda s: {"token": f"{s}\n"}},
                "login: no usable field 'token' in the answer",
            ),
            ({"accepts": lambda s: False}, "/api/me with the token answers HTTP 401, expected 200"),
            (
                {"accepts": lambda s: True},
                "a request without a token is let in: HTTP 200 at /api/me; "
                "a request with a wrong token is let in: HTTP 200 at /api/me",
            ),
            ({"accepts": bool}, "a request with a wrong token is let in: HTTP 200 at /api/me"),
            (
                {"refusal": 500},
                "/api/me without a token answers HTTP 500, expected 401 or 403; "
                "/api/me with a wrong token answers HTTP 500, expected 401 or 403",
            ),
            (
                {"refusal": 302},
                "/api/me without a token answers HTTP 302, expected 401 or 403; "
                "/api/me with a wrong token answers HTTP 302, expected 401 or 403",
            ),
        ],
    )
    def test_each_step_says_what_is_wrong(
        self, backend: Backend, check: Go, broken: dict[str, object], sentence: str
    ) -> None:
        for name, value in broken.items():
            setattr(backend, name, value)

        found = check(TOKEN)

        assert not found.passed
        assert found.sentence == sentence

    def test_a_refresh_that_fails(self, backend: Backend, check: Go) -> None:
        backend.status["/api/refresh"] = 503

        assert check(with_all(TOKEN)).sentence == "refresh answers HTTP 503"

    def test_a_refreshed_token_that_nobody_knows(self, backend: Backend, check: Go) -> None:
        """It is the second one that is refused: the login itself is good."""
        backend.accepts = lambda session: session in backend.issued[:1]

        assert check(with_all(TOKEN, logout_path="")).sentence == (
            "/api/me with the refreshed token answers HTTP 401, expected 200"
        )

    def test_a_refresh_token_that_is_missing(self, backend: Backend, check: Go) -> None:
        flow = with_all(TOKEN, refresh_token_field="refresh_token")

        assert check(flow).sentence == "login: no field 'refresh_token' in the answer"

    def test_a_log_out_that_fails(self, backend: Backend, check: Go) -> None:
        backend.status["/api/logout"] = 500

        assert check(with_all(TOKEN)).sentence == (
            "log-out answers HTTP 500; a request with the token from before the log-out is let in: "
            "HTTP 200 at /api/me"
        )

    def test_a_token_that_survives_its_log_out(self, backend: Backend, check: Go) -> None:
        backend.forgets = False

        assert check(with_all(TOKEN)).sentence == (
            "a request with the token from before the log-out is let in: HTTP 200 at /api/me"
        )

    def test_a_login_that_sets_no_cookie(self, backend: Backend, check: Go) -> None:
        backend.status["/api/login"] = 200
        backend.cookies = True

        assert check(COOKIE).sentence == "login sets no cookie"

    def test_a_service_that_nobody_reaches_has_no_auth_flow(self) -> None:
        """Its users cannot log in, whatever the reason is."""
        found = Service(url="http://127.0.0.1:9", auth=TOKEN).auth_flow()

        assert found is not None
        assert not found.passed
        assert found.sentence == "login is not answered: Connection refused"


class TestNotJudged:
    def test_too_many_logins_say_nothing_of_the_release(self, backend: Backend, check: Go) -> None:
        """They may be the check's own: one that failed is repeated with each sample."""
        backend.status["/api/login"] = 429

        with pytest.raises(Unreachable, match="login answers HTTP 429"):
            check(TOKEN)


class TestSecrets:
    @pytest.mark.parametrize("cookies", [False, True])
    def test_neither_password_nor_token_is_said_or_logged(
        self, backend: Backend, check: Go, caplog: pytest.LogCaptureFixture, cookies: bool
    ) -> None:
        caplog.set_level(logging.DEBUG, "httpx")
        flow = with_all(COOKIE if cookies else TOKEN)
        backend.cookies = cookies
        said = [repr(check(flow)), repr(flow), str(flow)]
        backend.refusal, backend.forgets = 500, False
        said.append(repr(check(flow)))

        logged = [record.getMessage() for record in caplog.records if record.name == "httpx"]
        assert len(logged) == 2 * flow.requests
        said += logged
        for secret in (PASSWORD, *backend.issued):
            assert not any(secret in text for text in said)

    def test_a_token_that_no_header_can_carry_is_not_in_the_exception(
        self, backend: Backend, check: Go
    ) -> None:
        backend.answer = lambda session: {"token": f"{session}\r\nX-Evil: 1"}

        assert "s3cret" not in repr(check(TOKEN))

    def test_a_password_in_an_error_of_the_network_is_concealed(self) -> None:
        flow = TOKEN.model_copy(update={"password": SecretStr("127.0.0.1")})

        assert flow.concealed("no route to 127.0.0.1") == "no route to ********"
