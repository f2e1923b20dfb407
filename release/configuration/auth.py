"""How to log in to the backend, and what must work, or must be refused, afterwards."""

from typing import ClassVar, Literal

from pydantic import SecretStr

from release.configuration.address import NeededPath, WebPath
from release.configuration.rules import Need, Rules


class AuthSettings(Rules):
    """The auth flow that is checked during the watch: log in, be recognised, refresh, log out, and
    be refused without a session and with a wrong one."""

    needs: ClassVar[tuple[Need, ...]] = (Need("password", asked_by="username"),)

    username: str = ""
    """An account made for this check alone; empty: the auth flow is not checked."""

    password: SecretStr = SecretStr("")
    """The password of the account in `username`."""

    login_path: NeededPath = "/api/login"
    """The path that takes username and password."""

    login_method: Literal["POST", "PUT"] = "POST"
    """The method of the login request."""

    login_format: Literal["json", "form"] = "json"
    """json: a JSON object. form: as a web page's form, or OAuth 2, sends it."""

    username_field: str = "username"
    """The field of the login request that holds the username."""

    password_field: str = "password"
    """The field of the login request that holds the password."""

    login_fields: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it
    """More fields of the login request, such as `{grant_type = "password"}`. No secrets."""

    session: Literal["token", "cookie"] = "token"
    """What identifies the session: a token in the login's JSON answer, or the cookies that it sets.
    With cookies, a redirect (3xx) from login and log-out is a success, and from the protected path
    a refusal, as web pages do."""

    token_field: str = "token"
    """The field of that answer that holds the token; dots go deeper: `data.token`."""

    header: str = "Authorization"
    """The header that carries the token."""

    scheme: str = "Bearer"
    """What precedes the token in that header; empty: nothing."""

    protected_path: NeededPath = "/api/me"
    """GET: 200 with the session, 401 or 403 without one and with a wrong one."""

    refresh_path: WebPath = ""
    """POST with the session; answers with a new one, as the login does; empty: not checked."""

    refresh_token_field: str = ""
    """The field of the login's answer that holds a refresh token, which is then sent as JSON;
    empty: none."""

    refresh_field: str = "refresh_token"
    """The field in which the refresh token is sent."""

    logout_path: WebPath = ""
    """POST with the session; empty: not checked."""

    logout_ends_session: bool = True
    """Whether the session must be refused after its log-out. Signed tokens of which the service
    keeps no list stay valid."""
