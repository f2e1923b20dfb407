"""How one logs in to the backend, and what has to work, or not to work, afterwards."""

from typing import ClassVar, Literal

from pydantic import SecretStr

from release.configuration.address import NeededPath, WebPath
from release.configuration.rules import Need, Rules


class AuthSettings(Rules):
    """The auth flow that is checked during the watch: log in, be known, refresh, log out, and be
    refused without a session and with a wrong one."""

    needs: ClassVar[tuple[Need, ...]] = (Need("password", asked_by="username"),)

    username: str = ""
    """An account made for this check alone; empty: the auth flow is not checked."""

    password: SecretStr = SecretStr("")
    """Of the account that `username` names."""

    login_path: NeededPath = "/api/login"
    """Takes username and password."""

    login_method: Literal["POST", "PUT"] = "POST"
    """How it is asked."""

    login_format: Literal["json", "form"] = "json"
    """json: a JSON object. form: as a web page's form sends it, and OAuth 2."""

    username_field: str = "username"
    """The username's field in what is sent."""

    password_field: str = "password"
    """The password's field in it."""

    login_fields: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it
    """More fields of it, such as `{grant_type = "password"}`. No secrets."""

    session: Literal["token", "cookie"] = "token"
    """What one is known by: a token in the login's JSON answer, or the cookies that it sets. With
    cookies a redirect (3xx) of login and log-out is a success, and of the protected path a
    refusal, as web pages do it."""

    token_field: str = "token"
    """Where the token is in that answer; dots go deeper: `data.token`."""

    header: str = "Authorization"
    """The header that carries the token."""

    scheme: str = "Bearer"
    """What stands before it there; empty: nothing."""

    protected_path: NeededPath = "/api/me"
    """GET: 200 with the session, 401 or 403 without one and with a wrong one."""

    refresh_path: WebPath = ""
    """POST with the session: answers with the next one, as the login does; empty: not checked."""

    refresh_token_field: str = ""
    """Where the login's answer has a refresh token, which is then sent as JSON; empty: none."""

    refresh_field: str = "refresh_token"
    """The field that it is sent in."""

    logout_path: WebPath = ""
    """POST with the session; empty: not checked."""

    logout_ends_session: bool = True
    """Whether the session must be refused after its log-out. Signed tokens that nobody keeps a list
    of stay good."""
