"""Scripts that complete verbs and flags in a shell.

    eval "$(speech2lip completion bash)"        in ~/.bashrc; zsh alike in ~/.zshrc
    speech2lip completion fish > ~/.config/fish/completions/speech2lip.fish
"""
import shlex

from absl import flags
from ml_collections import ConfigDict

from speech2lip_jax.common.usage import help_of

SHELLS = ('bash', 'zsh', 'fish')

_BASH = """_speech2lip() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words=
  if [ "$COMP_CWORD" -eq 1 ]; then
    words={verbs}
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _speech2lip speech2lip"""


def _fields(config: ConfigDict, prefix: str) -> list[str]:
  """The config's fields as flags: --config.seed, --config.data.path, …"""
  return [name for key, value in config.items()
          for name in (_fields(value, f'{prefix}.{key}') if isinstance(value, ConfigDict) else [f'{prefix}.{key}'])]


def _words(flag: flags.Flag) -> list[str]:
  """A flag as it may be written; a recipe's fields are with it."""
  words = [f'--{flag.name}'] + ([f'--no{flag.name}'] if flag.boolean else [])
  return words + (_fields(flag.value, f'--{flag.name}') if isinstance(flag.value, ConfigDict) else [])


def script(shell: str, verbs: dict[str, tuple[str, list[flags.Flag]]]) -> str:
  """The script for one of SHELLS. verbs: by name what it does and the flags that it reads."""
  if shell == 'fish':
    lines = []
    for verb, (what, known) in verbs.items():
      lines.append(f'complete -c speech2lip -n __fish_use_subcommand -f -a {verb} -d {shlex.quote(what)}')
      seen = f"-n '__fish_seen_subcommand_from {verb}'"
      for flag in known:
        for word in _words(flag):
          value = '' if flag.boolean else ' -r'
          text = f' -d {shlex.quote(help_of(flag))}' if word == f'--{flag.name}' else ''
          lines.append(f'complete -c speech2lip {seen} -l {word.removeprefix("--")}{value}{text}')
    return '\n'.join(lines)
  cases = '\n'.join(f'      {verb}) words={shlex.quote(" ".join(word for flag in known for word in _words(flag)))} ;;'
                    for verb, (_, known) in verbs.items())
  bash = _BASH.format(verbs=shlex.quote(' '.join(verbs)), cases=cases)
  return 'autoload -U +X bashcompinit && bashcompinit\n' + bash if shell == 'zsh' else bash
