"""The zero-shot protocol of UCF101 (Lumiere, Sec. 5.2): its prompts, and published scores."""

import collections
import pathlib
from collections.abc import Mapping

from core import unicode
from core.errors import UserError
from data.captions import words

COUNT = 10_235  # the number of videos that Lumiere generated

# The number of clips of each class in UCF101 (Soomro et al., 2012), 13,320 in total.
CLIPS = {
  'ApplyEyeMakeup': 145, 'ApplyLipstick': 114, 'Archery': 145, 'BabyCrawling': 132,
  'BalanceBeam': 108, 'BandMarching': 155, 'BaseballPitch': 150, 'Basketball': 134,
  'BasketballDunk': 131, 'BenchPress': 160, 'Biking': 134, 'Billiards': 150, 'BlowDryHair': 131,
  'BlowingCandles': 109, 'BodyWeightSquats': 112, 'Bowling': 155, 'BoxingPunchingBag': 163,
  'BoxingSpeedBag': 134, 'BreastStroke': 101, 'BrushingTeeth': 131, 'CleanAndJerk': 112,
  'CliffDiving': 138, 'CricketBowling': 139, 'CricketShot': 167, 'CuttingInKitchen': 110,
  'Diving': 150, 'Drumming': 161, 'Fencing': 111, 'FieldHockeyPenalty': 126,
  'FloorGymnastics': 125, 'FrisbeeCatch': 126, 'FrontCrawl': 137, 'GolfSwing': 139, 'Haircut': 130,
  'Hammering': 140, 'HammerThrow': 150, 'HandstandPushups': 128, 'HandstandWalking': 111,
  'HeadMassage': 147, 'HighJump': 123, 'HorseRace': 124, 'HorseRiding': 164, 'HulaHoop': 125,
  'IceDancing': 158, 'JavelinThrow': 117, 'JugglingBalls': 121, 'JumpingJack': 123,
  'JumpRope': 144, 'Kayaking': 141, 'Knitting': 123, 'LongJump': 131, 'Lunges': 127,
  'MilitaryParade': 125, 'Mixing': 136, 'MoppingFloor': 110, 'Nunchucks': 132, 'ParallelBars': 114,
  'PizzaTossing': 113, 'PlayingCello': 164, 'PlayingDaf': 151, 'PlayingDhol': 164,
  'PlayingFlute': 155, 'PlayingGuitar': 160, 'PlayingPiano': 105, 'PlayingSitar': 157,
  'PlayingTabla': 111, 'PlayingViolin': 100, 'PoleVault': 149, 'PommelHorse': 123, 'PullUps': 100,
  'Punch': 160, 'PushUps': 102, 'Rafting': 111, 'RockClimbingIndoor': 144, 'RopeClimbing': 119,
  'Rowing': 137, 'SalsaSpin': 133, 'ShavingBeard': 161, 'Shotput': 144, 'SkateBoarding': 120,
  'Skiing': 135, 'Skijet': 100, 'SkyDiving': 110, 'SoccerJuggling': 147, 'SoccerPenalty': 137,
  'StillRings': 112, 'SumoWrestling': 116, 'Surfing': 126, 'Swing': 131, 'TableTennisShot': 140,
  'TaiChi': 100, 'TennisSwing': 166, 'ThrowDiscus': 130, 'TrampolineJumping': 119, 'Typing': 136,
  'UnevenBars': 104, 'VolleyballSpiking': 116, 'WalkingWithDog': 123, 'WallPushups': 130,
  'WritingOnBoard': 152, 'YoYo': 128,
}  # fmt: skip

# FVD and IS of methods that were not trained on UCF101 (Lumiere, Table 1).  The protocol of each is
# not published.
PUBLISHED = {
  'MagicVideo': (655.00, None),
  'Emu Video': (606.20, 42.70),
  'Video LDM': (550.61, 33.45),
  'Show-1': (394.46, 35.42),
  'Make-A-Video': (367.23, 33.00),
  'PYoCo': (355.19, 47.76),
  'SVD': (242.02, None),
  'Lumiere (Google)': (332.49, 37.54),
}


def proportional(count: int, clips: Mapping[str, int] = CLIPS) -> dict[str, int]:
  """The number of videos of each class, `count` in total, in proportion to its clips.

  This is the method of largest remainders, where the first of equal remainders comes first.
  """
  total = sum(clips.values())
  shares = {name: divmod(count * n, total) for name, n in clips.items()}
  remaining = count - sum(quotient for quotient, _ in shares.values())
  rounded_up = set(sorted(shares, key=lambda name: -shares[name][1])[:remaining])
  return {name: quotient + (name in rounded_up) for name, (quotient, _) in shares.items()}


def class_prompts(path: pathlib.Path | None) -> dict[str, str]:
  """A prompt for every class: from a file, or else the name of the class in words.

  path: each line has a class, a tab and its prompt; lines that begin with # are ignored.

  UserError where the file does not have every class exactly once, with a prompt, and no others.
  """
  if path is None:
    return {name: words(name) for name in CLIPS}
  try:
    lines = [x for x in unicode.lines(unicode.decoded(path.read_bytes())) if x.strip()]
  except (OSError, ValueError) as error:
    raise UserError(f'Cannot read the prompts of {path}: {error}.') from error
  pairs = [line.split('\t') for line in lines if not line.startswith('#')]
  prompts = {pair[0]: pair[-1].strip() if len(pair) > 1 else '' for pair in pairs}
  if wrong := sorted(prompts.keys() ^ CLIPS.keys()):
    raise UserError(
      f'{path} has not the 101 classes of UCF101, each with a tab and its prompt: '
      f'{", ".join(wrong[:5])} {"differs" if len(wrong) == 1 else "differ"}.'
    )
  if len(pairs) > len(prompts):
    counts = collections.Counter(pair[0] for pair in pairs)
    repeated = ', '.join(sorted(name for name, n in counts.items() if n > 1))
    raise UserError(f'{path} has more than one line of {repeated}; allowed is one for each class.')
  if blank := sorted(name for name, prompt in prompts.items() if not prompt):
    raise UserError(f'{path} has no prompt of {", ".join(blank)}; each class needs one.')
  return {name: prompts[name] for name in CLIPS}


def video_prompts(count: int, prompts: Mapping[str, str]) -> list[str]:
  """The prompt of every video, class by class.

  prompts: the prompt of each class.
  """
  return [prompts[name] for name, n in proportional(count).items() for _ in range(n)]


def describe(count: int, prompts: Mapping[str, str]) -> str:
  """A table of the classes: number of videos, clips in UCF101, and prompt."""
  counts = proportional(count)
  lines = [f'{name:20} {counts[name]:6,} {n:6,}  {prompts[name]}' for name, n in CLIPS.items()]
  head = f'{"class":20} {"videos":>6} {"UCF101":>6}  prompt'
  total = f'{"all":20} {sum(counts.values()):6,} {sum(CLIPS.values()):6,}'
  return '\n'.join([head, *lines, total])


def comparison_table(name: str, fvd: float | None, inception_score: float | None) -> str:
  """A table of the published scores and of ours, which is marked, as protocols may differ."""
  rows = [*PUBLISHED.items(), (f'{name} †', (fvd, inception_score))]
  cell = lambda value: '-' if value is None else f'{value:.2f}'
  lines = (f'| {method} | {cell(a)} | {cell(b)} |' for method, (a, b) in rows)
  note = (
    '† has the protocol that is written with the score.  The published rows say neither their '
    'reference set nor how they resize and count frames.'
  )
  return '\n'.join(['| zero-shot UCF101 | FVD | IS |', '|---|---:|---:|', *lines, '', note])
