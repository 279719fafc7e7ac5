"""The page: three tabs, which ask what the API asks, and look at the folder every two seconds."""
import html
import pathlib
import shutil
from typing import Any

import gradio as gr

from speech2lip_jax.app import jobs, sounds
from speech2lip_jax.app.people import Person
from speech2lip_jax.app.state import State
from speech2lip_jax.common.errors import InputError

LOOK_S = 2.0
THEME = gr.themes.Base(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'], primary_hue='blue',
                       radius_size='sm')
CSS = '''
.gradio-container { max-width: 1080px !important; margin: auto !important; }
.s2l img, .s2l video { max-width: 100%; max-height: 70vh; border-radius: 4px; display: block; margin-bottom: .5em; }
.s2l video { width: 100%; }
.s2l progress { width: 100%; height: .8em; }
.s2l .told { opacity: .75; font-size: .9em; overflow-wrap: anywhere; }
.s2l .warned { color: #92400e; font-size: .9em; }
.s2l .wrong { color: #b91c1c; }
.s2l iframe { width: 100%; height: 80vh; border: 1px solid var(--border-color-primary); border-radius: 4px; background: white; }
'''
HEAD = '''# speech2lip
A few minutes of video of one person in, that person saying anything out. Make a person speak only if that person has agreed to
it, and say of every such video that it is synthetic.'''
AGREED = 'The person in this video has agreed to be made to speak'
STATES = {'new': 'not prepared yet', 'prepared': 'prepared, not trained yet', 'begun': 'partly trained', 'trained': 'trained'}


def build(state: State) -> gr.Blocks:
  """The page of a state."""
  with gr.Blocks(title='speech2lip', analytics_enabled=False) as page:
    gr.Markdown(HEAD)
    shown = gr.State([])
    with gr.Row(equal_height=False):
      who = gr.Dropdown(label='Person', choices=_names(state), value=next(iter(_names(state)), None), scale=1, elem_id='who')
      with gr.Column(scale=3):
        work = gr.HTML(elem_classes='s2l', elem_id='work')
      stop = gr.Button('Cancel', scale=0, min_width=90, elem_id='stop')
    with gr.Tab('Person'):
      with gr.Row():
        with gr.Column():
          gr.Markdown('### Somebody new')
          name = gr.Textbox(label='Name', info='Letters, digits, - and _', elem_id='name')
          video = gr.File(label='Video of the person speaking, with sound', file_types=['video'], elem_id='video')
          agreed = gr.Checkbox(label=AGREED, elem_id='agreed')
          consent = gr.Textbox(label='Who agreed, when and to what', info='Kept with the person.', lines=2, max_length=4000,
                               elem_id='consent')
          prepare = gr.Button('Prepare the video', variant='primary', elem_id='prepare')
        with gr.Column():
          train = gr.Button('Train', variant='primary', elem_id='train')
          about = gr.HTML(elem_classes='s2l', elem_id='about')
    with gr.Tab('Say'):
      with gr.Row():
        with gr.Column():
          sound = gr.File(label='A sound, or a video with sound', file_types=['audio', 'video'], elem_id='sound')
          text = gr.Textbox(label='Or a text', lines=3, elem_id='text')
          voice = gr.Textbox(label='Voice for the text', info='Of espeak-ng: en, de, fr-fr, cmn …', value='en', elem_id='voice')
          with gr.Row():
            preview = gr.Button('Preview the face', elem_id='preview')
            full = gr.Button('Full frame', variant='primary', elem_id='full')
        with gr.Column():
          said = gr.HTML(elem_classes='s2l', elem_id='said')
    with gr.Tab('Report'):
      make = gr.Button('Make the report', elem_id='make')
      report = gr.HTML(elem_classes='s2l', elem_id='report')

    views = [who, work, about, said, report]

    def look(person: str | None, before: list[str]) -> list:
      """All that is shown of a person; what is as before is left alone, so that a video goes on playing."""
      now = [repr(_names(state)), *_views(state, person)]
      parts = [part if position >= len(before) or part != before[position] else gr.skip() for position, part in enumerate(now)]
      if isinstance(parts[0], str):
        names = _names(state)
        parts[0] = gr.update(choices=names, value=person if person in names else next(iter(names), None))
      return [*parts, now]

    def acting(action):
      """An action of a button, whose refusals are told on the page."""
      def act(*values):
        try:
          return action(*values)
        except (InputError, OSError) as error:
          raise gr.Error(str(error), duration=8, print_exception=False) from error
      return act

    def begin(person_name: str, file: str | None, is_agreed: bool, statement: str):
      person = _add(state, person_name, file, is_agreed, statement)
      return gr.update(choices=_names(state), value=person.name), None, '', False, ''

    listen: dict[str, Any] = {'api_visibility': 'private', 'show_progress': 'hidden'}
    prepare.click(acting(begin), [name, video, agreed, consent], [who, video, name, agreed, consent], **listen)
    train.click(acting(lambda person: _queue(state, 'train', person)), who, None, **listen)
    make.click(acting(lambda person: _queue(state, 'report', person)), who, None, **listen)
    for button, kind in ((preview, 'say'), (full, 'dub')):
      button.click(acting(lambda person, file, words, of, kind=kind: _say(state, kind, person, file, words, of)),
                   [who, sound, text, voice], None, **listen)
    stop.click(acting(lambda: _cancel(state)), None, None, **listen)
    for event in (gr.Timer(LOOK_S).tick, who.change, page.load):
      event(look, [who, shown], [*views, shown], **listen)
  return page


def _names(state: State) -> list[str]:
  return [person.name for person in state.people]


def _add(state: State, name: str, file: str | None, is_agreed: bool, statement: str) -> Person:
  """A new person, whose video is then prepared.

  Raises:
    InputError: something is missing.
  """
  if not is_agreed or not statement.strip():
    raise InputError('Tick that the person has agreed, and say who, when and to what')
  if not file:
    raise InputError('Drop a video first')
  person = state.people.add(name.strip(), sounds.checked(pathlib.Path(file)))
  state.queue.add('prepare', person, statement.strip())
  return person


def _queue(state: State, kind: str, name: str | None) -> None:
  person = state.people.find(name)
  if kind == 'train' and not person.is_prepared() and not any(job.person == name for job in state.queue.open()):
    kind = 'prepare'  # it was stopped on its way
    statements = [job.value for job in state.queue.all() if job.person == name and job.kind == 'prepare']
    state.queue.add(kind, person, statements[-1])
    return
  state.queue.add(kind, person)


def _say(state: State, kind: str, name: str | None, file: str | None, words: str, voice: str) -> None:
  person, job_id = state.people.find(name), jobs.new_id()
  path = person.said / f'{job_id}.sound'
  if file:
    shutil.copyfile(file, path)
    path = sounds.checked(path)
  else:
    path = sounds.spoken(words, path, voice.strip())
  state.queue.add(kind, person, str(path), job_id)


def _cancel(state: State) -> None:
  running = state.queue.open()
  if not running:
    raise InputError('Nothing is being done')
  state.queue.cancel(running[0].id)


# ---- what is shown

def _views(state: State, name: str | None) -> list[str]:
  """HTML of the queue, and of a person: what is known, what was said, the report."""
  if not name:
    return [_work(state), '<p class="told">Nobody is here yet: give a name, a video and the consent.</p>', '', '']
  person = state.people.find(name)
  return [_work(state), _about(state, person), _said(person), _report(person)]


def _work(state: State) -> str:
  waiting, every = state.queue.open(), state.queue.all()
  if not waiting:
    last = every[-1] if every else None
    if last and last.state == jobs.FAILED:
      return f'<p><b>{_titled(last)}</b>: <span class="wrong">{html.escape(last.message)}</span></p>'
    return f'<p>{_titled(last)}: {last.state}</p>' if last else '<p class="told">Nothing to do.</p>'
  share, line = state.queue.progress(waiting[0])
  bar = f'<progress max="1" value="{share:.3f}"></progress>' if share is not None else '<progress></progress>'
  more = f'<p class="told">then: {", ".join(map(_titled, waiting[1:]))}</p>' if waiting[1:] else ''
  return f'<p><b>{_titled(waiting[0])}</b></p>{bar}<p class="told">{html.escape(line)}</p>{more}'


def _titled(job: jobs.Job) -> str:
  return f'{html.escape(job.person)}: {jobs.TITLES[job.kind]}'


def _about(state: State, person: Person) -> str:
  done, wanted = person.steps()
  steps = f', step {done} of {wanted}' if done else ''
  parts = [f'<h3>{person.name}: {STATES[person.state()]}{steps}</h3>']
  if (sample := person.sample()) is not None:
    parts.append(f'<p>True frames above, ours below ({sample.stem.rpartition("_")[2].lstrip("0")} steps):</p>'
                 f'<img src="{_source(person, "sample.png", sample)}" alt="true frames above ours">')
  parts += [f'<p class="warned">{html.escape(line)}</p>' for line in person.warnings()]
  sheet = person.subject / 'contact_sheet.png'
  if sheet.is_file():
    address = _source(person, sheet.name, sheet)
    parts.append('<p>Look before you train (click for its full size): the landmarks must sit on the face, the box on the lips.</p>'
                 f'<a href="{address}" target="_blank"><img src="{address}" alt="contact sheet"></a>')
  return ''.join(parts)


def _said(person: Person) -> str:
  files = person.said_files()
  if not files:
    return f'<p class="told">{person.name} has said nothing yet.</p>'
  newest = _source(person, files[0].name, files[0])
  older = ''.join(f'<li><a href="{_source(person, path.name, path)}" target="_blank">{path.stem}</a></li>' for path in files[1:])
  saved = f'<p><a href="{newest}" download="{person.name}_{files[0].name}">Save it</a></p>'
  return (f'<video controls autoplay src="{newest}"></video>{saved}'
          + (f'<details><summary>Before</summary><ul>{older}</ul></details>' if older else ''))


def _report(person: Person) -> str:
  if not person.report.is_file():
    return f'<p class="told">No report of {person.name} yet. It plays true frames beside ours, and scores them.</p>'
  return f'<iframe title="report" src="{_source(person, person.report.name, person.report)}"></iframe>'


def _source(person: Person, what: str, file: pathlib.Path) -> str:
  """The address of a file; another one when it has changed."""
  return f'/files/{person.name}/{what}?{file.stat().st_mtime_ns}'
