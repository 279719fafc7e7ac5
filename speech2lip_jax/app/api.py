"""The HTTP API, and the files that the page shows. What is wrong is answered as {"error": one line}."""
import asyncio
import pathlib

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from speech2lip_jax.app import jobs, sounds
from speech2lip_jax.app.people import SAID, Person, UnknownPerson
from speech2lip_jax.app.state import State
from speech2lip_jax.common.errors import InputError

WAIT_S = 0.2  # between two looks at a job
RETRY_S = '60'


def add_routes(app: FastAPI, state: State) -> None:
  """Adds the API and the files to an application."""
  @app.exception_handler(InputError)
  def refused(_: Request, error: InputError) -> JSONResponse:
    return JSONResponse({'error': str(error)}, 404 if isinstance(error, UnknownPerson) else 400)

  @app.get('/api/people')
  def people() -> list[dict]:
    """Everybody who is here."""
    return [_described(person) for person in state.people]

  @app.post('/api/people/{name}/say', response_model=None)
  async def say(name: str, request: Request, full_frame: bool = False) -> FileResponse | JSONResponse:
    """The sound (or, as text/plain, the text) of the body, said by a person: an mp4 of the face, or of the video's full frame."""
    person, length = state.people.find(name), int(request.headers.get('content-length') or 0)
    if long := [job for job in state.queue.open() if job.kind in jobs.LONG]:
      return JSONResponse({'error': f'busy: {long[0].person}: {jobs.TITLES[long[0].kind]}'}, 503, {'Retry-After': RETRY_S})
    job_id = jobs.new_id()
    given = person.said / f'{job_id}.sound'
    if length > state.max_upload or not await _received(request, given, state.max_upload):
      return JSONResponse({'error': f'larger than {state.max_upload // 10**6} MB; --max_upload_mb allows more'}, 413)
    is_text = request.headers.get('content-type', '').startswith('text/plain')
    sound = await run_in_threadpool(sounds.spoken_file if is_text else sounds.checked, given)
    job = state.queue.add('dub' if full_frame else 'say', person, str(sound), job_id)
    while job.state in jobs.OPEN:
      if await request.is_disconnected():
        state.queue.cancel(job.id)
      await asyncio.sleep(WAIT_S)
    if job.state != jobs.DONE:
      return JSONResponse({'error': job.message or job.state}, 400)
    return FileResponse(person.said / f'{job.id}.mp4', media_type='video/mp4', filename=f'{name}_{job.id}.mp4')

  @app.get('/api/jobs')
  def queue() -> list[dict]:
    """What runs and waits, and what was."""
    return [{'id': job.id, 'person': job.person, 'kind': job.kind, 'state': job.state, 'message': job.message} for job in
            state.queue.all()]

  @app.delete('/api/jobs/{job_id}')
  def cancel(job_id: str) -> dict:
    """Stops a job."""
    state.queue.cancel(job_id)
    return {'id': job_id, 'state': state.queue.find(job_id).state}

  @app.get('/files/{name}/{what}', response_model=None)
  def file(name: str, what: str) -> FileResponse | JSONResponse:
    """A picture, a page or a video of a person, by one of the names that the page uses."""
    path = _file_of(state.people.find(name), what)
    if path is None or not path.is_file():
      return JSONResponse({'error': f'{name} has no {what!r}'}, 404)
    return FileResponse(path, headers={'Cache-Control': 'no-cache'})


def _described(person: Person) -> dict:
  done, wanted = person.steps()
  return {'name': person.name, 'state': person.state(), 'steps': done, 'num_steps': wanted,
          'said': [path.stem for path in person.said_files()]}


async def _received(request: Request, path: pathlib.Path, most: int) -> bool:
  """Writes a request's body into a file; whether it has at most so many bytes. No file is left where it has not."""
  size = 0
  try:
    with open(path, 'wb') as file:
      async for piece in request.stream():
        size += len(piece)
        if size > most:
          break
        file.write(piece)
  except BaseException:  # the client has gone
    path.unlink()
    raise
  if size > most:
    path.unlink()
  return size <= most


def _file_of(person: Person, what: str) -> pathlib.Path | None:
  if SAID.fullmatch(what.removesuffix('.mp4')):
    return person.said / f'{what.removesuffix(".mp4")}.mp4'
  return {'contact_sheet.png': person.subject / 'contact_sheet.png', 'sample.png': person.sample(),
          'report.html': person.report}.get(what)
