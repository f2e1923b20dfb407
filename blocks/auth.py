"""The auth flow as a user goes through it: log in, be recognised, refresh, log out, be refused.

Source: the runbook, "Verify auth flow works" and the rollback trigger "Auth flow broken".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from time import monotonic
from typing import Any

from blocks.http_client import Reply, ask, client
from blocks.part import Part
from release.configuration.auth import AuthSettings
from release.errors import Unreachable
from release.model import Check, Probe
from release.verification import read_field

_WRONG = "not-a-token"
_REFUSED = (401, 403)
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Session:
    """What identifies a user to the server."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # of a request
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)  # as in the headers
    refresh_token: str = field(default="", repr=False)


class AuthFlow(AuthSettings, Part):
    """How to log in, and what must work, or be refused, afterwards."""

    _block_type_name = "Ignition Auth Flow"

    @property
    def configured(self) -> bool:
        """Whether there is an account to check it with."""
        return bool(self.username)

    @property
    def requests(self) -> int:
        """How many requests a whole check makes."""
        refreshes = 2 if self.refresh_path else 0
        logs_out = (2 if self.logout_ends_session else 1) if self.logout_path else 0
        return 4 + refreshes + logs_out

    def check(self, base_url: str, within_s: float, *, own_network: bool) -> Check:
        """Go through the flow once. Every step that went wrong is a clause of the sentence.

        A service that does not answer has failed: nobody can log in. Raises Unreachable if the
        release cannot be judged, because the service takes no more logins for now. No text holds a
        password or a token.
        """
        began = monotonic()
        steps = list(_Walk(self, base_url, within_s, own_network).steps())
        wrong = [step.sentence for step in steps if not step.passed]
        good = ", ".join(step.name for step in steps)
        took = timedelta(seconds=monotonic() - began)
        return Check("auth flow", not wrong, "; ".join(wrong) or f"good: {good}", took)

    def log_in(self, base_url: str, within_s: float, *, own_network: bool) -> Session | None:
        """A session for requests. Returns None if the login gives none.

        Raises Unreachable if the service takes no more logins for now.
        """
        return _Walk(self, base_url, within_s, own_network).log_in()[2]

    def concealed(self, text: str) -> str:
        """A text without the password."""
        password = self.password.get_secret_value()
        return text.replace(password, "********") if password else text


class _Walk:
    """One walk through the flow."""

    def __init__(self, flow: AuthFlow, base_url: str, within_s: float, own_network: bool) -> None:
        self._flow = flow
        self._base_url = base_url.rstrip("/")
        self._within_s = within_s
        self._own_network = own_network
        self._cookies: tuple[str, ...] = ("session",)  # by name

    def steps(self) -> Iterator[Check]:
        """One check for each step, in order. Steps that need a session are left out without one."""
        flow, kind = self._flow, self._flow.session
        login, answered, session = self.log_in()
        yield login
        if not answered:
            return  # no answer: every other step would say the same
        if session:
            yield self._known(session, f"with the {kind}")
        if session and flow.refresh_path:
            refresh, session = self._refresh(session)
            yield refresh
            if session:
                yield self._known(session, f"with the refreshed {kind}")
        if session and flow.logout_path:
            yield self._log_out(session)
            if flow.logout_ends_session:
                yield self._refused(session, f"with the {kind} from before the log-out")
        yield self._refused(Session(), f"without a {kind}")
        yield self._refused(self._stranger(), f"with a wrong {kind}")

    def log_in(self) -> tuple[Check, bool, Session | None]:
        """Log in: how that went, whether the service answered, and the session that it gave."""
        flow = self._flow
        body = {
            **flow.login_fields,
            flow.username_field: flow.username,
            flow.password_field: flow.password.get_secret_value(),
        }
        form = {"json": body} if flow.login_format == "json" else {"data": body}
        reply = self._ask(flow.login_method, flow.login_path, Session(), **form)
        if reply.probe.status == _TOO_MANY:
            # The check's own logins may be the excess: that says nothing about the release.
            raise Unreachable("login answers HTTP 429, so the auth flow could not be judged")
        check, session = self._session_of(reply, "login", Session())
        return check, bool(reply.probe.status), session

    def _refresh(self, session: Session) -> tuple[Check, Session | None]:
        flow = self._flow
        form = (
            {"json": {flow.refresh_field: session.refresh_token}} if session.refresh_token else {}
        )
        return self._session_of(
            self._ask("POST", flow.refresh_path, session, **form), "refresh", session
        )

    def _log_out(self, session: Session) -> Check:
        probe = self._ask("POST", self._flow.logout_path, session).probe
        return Check("log-out", self._done(probe), f"log-out {_says(probe)}", probe.took)

    def _known(self, session: Session, how: str) -> Check:
        path = self._flow.protected_path
        probe = self._ask("GET", path, session).probe
        return Check(how, probe.ok, f"{path} {how} {_says(probe)}, expected 200", probe.took)

    def _refused(self, session: Session, how: str) -> Check:
        path = self._flow.protected_path
        probe = self._ask("GET", path, session).probe
        refused = probe.status in _REFUSED or (self._by_cookie and 300 <= probe.status < 400)
        said = f"{path} {how} {_says(probe)}, expected 401 or 403"
        if probe.ok:
            said = f"a request {how} is let in: HTTP {probe.status} at {path}"
        return Check(f"refused {how}", refused, said, probe.took)

    def _session_of(self, reply: Reply, step: str, before: Session) -> tuple[Check, Session | None]:
        """The session that an answer begins or continues, or why it does not."""
        probe, flow = reply.probe, self._flow
        session, problem = None, ""
        if not self._done(probe):
            problem = f"{step} {_says(probe)}"
        elif self._by_cookie:
            cookies = {**before.cookies, **_cookies_of(reply)}
            self._cookies = tuple(cookies) or self._cookies
            session = _known_by(cookies) if cookies else None
            problem = "" if cookies else f"{step} sets no cookie"
        else:
            token = read_field(reply.body, flow.token_field)
            if token is None or not token.isascii() or not token.isprintable():
                problem = f"{step}: no usable field {flow.token_field!r} in the answer"
            else:
                again = read_field(reply.body, flow.refresh_token_field or " ")
                renewed = again or before.refresh_token
                session = Session(self._carrying(token), refresh_token=renewed)
                if step == "login" and flow.refresh_token_field and not again:
                    problem = f"{step}: no field {flow.refresh_token_field!r} in the answer"
        return Check(step, not problem, problem, probe.took), session

    def _stranger(self) -> Session:
        if self._by_cookie:
            return _known_by(dict.fromkeys(self._cookies, _WRONG))
        return Session(self._carrying(_WRONG))

    def _carrying(self, token: str) -> dict[str, str]:
        return {self._flow.header: f"{self._flow.scheme} {token}".strip()}

    @property
    def _by_cookie(self) -> bool:
        return self._flow.session == "cookie"

    def _done(self, probe: Probe) -> bool:
        """Whether a step succeeded; forms of web pages answer with a redirect."""
        return probe.ok or (self._by_cookie and 300 <= probe.status < 400)

    def _ask(self, method: str, path: str, session: Session, **options: Any) -> Reply:
        # A client of its own, so that no cookie is sent but the session's.
        with client(self._within_s, own_network=self._own_network) as http:
            return ask(
                http,
                method,
                self._base_url + path,
                self._within_s,
                conceal=self._flow.concealed,
                headers=dict(session.headers),
                **options,
            )


def _known_by(cookies: Mapping[str, str]) -> Session:
    together = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return Session({"Cookie": together}, cookies)


def _says(probe: Probe) -> str:
    if not probe.status:
        return f"is not answered: {probe.detail}"
    return f"answers HTTP {probe.status}"


def _cookies_of(reply: Reply) -> dict[str, str]:
    """The cookies that an answer sets. Their domain and path are ignored, because an instance is
    asked at an address of its own."""
    found: dict[str, str] = {}
    for line in reply.headers.get_list("set-cookie"):
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(line)
        except CookieError:
            continue
        found |= {name: morsel.coded_value for name, morsel in jar.items() if morsel.value}
    return found
