"""What a command prints for --help: what it does, its verbs, and its flags."""

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence

from absl import flags

ASKS = ('--help', '-help', '-h', '-?', '--helpshort', '--helpfull')


@dataclasses.dataclass(frozen=True)
class Verb:
  """What a command does when its first argument has this verb's name."""

  call: Callable[[], None]
  about: str  # one line
  example: str  # a whole command
  flags: Mapping[str, Sequence[str]]  # the names of the flags that it takes, by headings

  @property
  def names(self) -> list[str]:
    """The names of all flags that it takes."""
    return [name for names in self.flags.values() for name in names]


def is_asked(arguments: Sequence[str]) -> bool:
  """Whether the arguments of a command ask for help."""
  return any(argument in ASKS for argument in arguments)


def of_verbs(doc: str, verbs: Mapping[str, Verb]) -> str:
  """What a command does, and a line for each of its verbs."""
  width = max(map(len, verbs))
  lines = '\n'.join(f'  {name:{width}}  {verb.about}' for name, verb in verbs.items())
  more = f'{_script(verbs)} VERB --help shows the flags of a verb and an example.'
  return f'{doc.strip()}\n\nverbs:\n{lines}\n\n{more}'


def of_verb(name: str, verb: Verb) -> str:
  """What a verb does, an example, and the flags that it takes."""
  parts = [f'{name}: {verb.about}', f'  {verb.example}']
  parts += [f'{heading}:\n{of_flags(names)}' for heading, names in verb.flags.items()]
  return '\n\n'.join(parts)


def of_flags(names: Sequence[str]) -> str:
  """The flags of these names, each with its help, the values that are allowed, and its default."""
  columns = min(shutil.get_terminal_size().columns, 100)
  wrap = lambda text: textwrap.fill(
    text, columns, initial_indent='  ', subsequent_indent=' ' * 6, break_on_hyphens=False
  )
  return '\n'.join(wrap(_flag(flags.FLAGS[name])) for name in names)


def unused(name: str, verbs: Mapping[str, Verb]) -> str:
  """What is wrong with the flags that were set: that the verb of this name does not take some.

  Empty if there are none.  Flags that belong to no verb, as those of absl, are taken by all.
  """
  of_all = set.intersection(*(set(verb.names) for verb in verbs.values()))
  of_any = {flag for verb in verbs.values() for flag in verb.names}
  taken = verbs[name].names
  useless = [f'--{flag}' for flag in sorted(of_any - {*taken}) if flags.FLAGS[flag].present]
  if not useless:
    return ''
  allowed = ', '.join(f'--{flag}' for flag in taken if flag not in of_all)
  more = ' and the flags of all verbs' if of_all else ''
  return (
    f'{name} does not take {", ".join(useless)}; allowed are {allowed}{more}: see '
    f'{_script(verbs)} {name} --help.'
  )


def _script(verbs: Mapping[str, Verb]) -> str:
  """The command without its arguments, as the examples have it."""
  return re.match(r'python (-m )?\S+', next(iter(verbs.values())).example)[0]


def _flag(flag: flags.Flag) -> str:
  """A flag, its help, and in brackets the values that are allowed and the default."""
  choices = getattr(flag.parser, 'enum_values', None)
  about = flag.help.removeprefix(f'<{"|".join(choices)}>: ') if choices else flag.help
  notes = ['one of ' + ', '.join(choices) if choices else flag.parser.syntactic_help]
  if flag.default not in (None, '', []):
    default = flag.default
    notes.append('default: ' + (','.join(default) if isinstance(default, list) else str(default)))
  notes = '; '.join(filter(None, notes))
  head = f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}'
  return f'{head}: {about}' + (f' ({notes})' if notes else '')
