"""Who may ask: this machine's browser for pages of this server, or, shared, whoever has the password; and what a page may load."""
import base64
import secrets
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

USER = 'speech2lip'
LOCAL = ('127.0.0.1', 'localhost', '::1')
# Nothing is fetched from elsewhere, whatever a library's page asks for.
POLICY = ("default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob:; frame-ancestors 'self'; "
          "form-action 'self'; base-uri 'self'")


class Guard:
  """An ASGI application in front of another one."""

  def __init__(self, app: ASGIApp, password: str | None):
    """password: asked for, of the user `USER`, where the server is shared; None: only this machine's names are answered to."""
    self._app, self._password = app, password

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a refusal, or lets the request through and adds the policy to what comes back."""
    if scope['type'] not in ('http', 'websocket'):
      await self._app(scope, receive, send)
      return
    refusal = self._refusal(HTTPConnection(scope))
    if refusal:
      await refusal(scope, receive, send)
      return

    async def send_with_policy(message: Message) -> None:
      if message['type'] == 'http.response.start':
        message['headers'] = [*message.get('headers', []), (b'content-security-policy', POLICY.encode()),
                              (b'referrer-policy', b'no-referrer'), (b'x-content-type-options', b'nosniff')]
      await send(message)
    await self._app(scope, receive, send_with_policy)

  def _refusal(self, request: HTTPConnection) -> Response | None:
    host, origin = request.headers.get('host', ''), request.headers.get('origin')
    if origin and urlsplit(origin).netloc != host:  # another site's page, in a browser that can reach this server
      return PlainTextResponse('asked by a page of another site', 403)
    if self._password is None:
      is_local = urlsplit(f'//{host}').hostname in LOCAL  # else a name that somebody points to this machine
      return None if is_local else PlainTextResponse('ask for http://127.0.0.1', 403)
    kind, _, given = request.headers.get('authorization', '').partition(' ')
    wanted = base64.b64encode(f'{USER}:{self._password}'.encode()).decode()
    if kind.lower() == 'basic' and secrets.compare_digest(given.encode(), wanted.encode()):
      return None
    return PlainTextResponse('a password is needed', 401, {'WWW-Authenticate': 'Basic realm="speech2lip"'})
