"""The server: the guard, the API and the page on one port."""
import logging
import os
import pathlib
import secrets
import socket
import sys
from typing import NamedTuple

from starlette.types import ASGIApp

from speech2lip_jax.app.guard import USER, Guard
from speech2lip_jax.app.jobs import Verbs
from speech2lip_jax.app.state import State
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import lock

PASSWORD = 'SPEECH2LIP_PASSWORD'
SHUTDOWN_S = 3  # that open pages are waited for; they look every few seconds and would never end
# Gradio's own: no counting of visits, no look for a newer version, no models of Hugging Face.
QUIET = {'GRADIO_ANALYTICS_ENABLED': 'False', 'HF_HUB_DISABLE_TELEMETRY': '1', 'HF_HUB_OFFLINE': '1', 'GRADIO_RUN_HISTORY': 'False'}


class Settings(NamedTuple):
  """The verb's flags. folder, recipe: absolute. max_upload: bytes. size, landmarker: as of `preprocess`, or None."""
  folder: pathlib.Path
  port: int
  is_shared: bool
  max_upload: int
  recipe: str
  size: int | None
  landmarker: str | None


def make_app(state: State, password: str | None = None) -> ASGIApp:
  """The page, the API, and the guard before both."""
  os.environ.update(QUIET)
  os.environ['GRADIO_TEMP_DIR'] = str(state.uploads)
  import fastapi
  import gradio

  from speech2lip_jax.app import api, page
  app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
  api.add_routes(app, state)
  app = gradio.mount_gradio_app(app, page.build(state), path='/', footer_links=[], run_history=False, ssr_mode=False,
                                theme=page.THEME, css=page.CSS, max_file_size=state.max_upload, allowed_paths=[])
  return Guard(app, password)


def serve(settings: Settings) -> None:
  """Serves until it is stopped.

  Raises:
    InputError: the port is taken, or another server has the folder.
  """
  import uvicorn
  settings.folder.mkdir(parents=True, exist_ok=True)
  host = '0.0.0.0' if settings.is_shared else '127.0.0.1'
  listener = _bind(host, settings.port)
  password = (os.environ.get(PASSWORD) or secrets.token_urlsafe(12)) if settings.is_shared else None
  with lock(settings.folder, 'app'), listener:
    verbs = Verbs(settings.recipe, settings.size, settings.landmarker)
    state = State.open(settings.folder, verbs, settings.max_upload)
    try:
      app = make_app(state, password)
      print(f'http://{socket.gethostname() if settings.is_shared else host}:{settings.port}  ({settings.folder}; Ctrl-C ends it)')
      if password:
        print(f'user {USER}, password {password if PASSWORD not in os.environ else f"as ${PASSWORD} says"}')
      sys.stdout.flush()
      running = uvicorn.Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=SHUTDOWN_S))
      # Pages that are open when it ends are no fault.
      logging.getLogger('uvicorn.error').addFilter(lambda record: not running.should_exit)
      running.run(sockets=[listener])
    finally:
      state.queue.close()


def _bind(host: str, port: int) -> socket.socket:
  listener = socket.socket()
  listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listener.bind((host, port))
    listener.listen()  # who asks before the server is ready waits
  except OSError as error:
    listener.close()
    raise InputError(f'--port={port}: cannot be listened at ({error.strerror}); give another one') from error
  return listener
