"""What raters of a `user_study` prefer, and how sure that is."""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
from scipy import special

from core.errors import UserError
from evaluation.user_study.answers import FACTS, Answer, Session, read_key, read_sessions

Path = pathlib.Path


@dataclasses.dataclass(frozen=True)
class Preference:
  """The answers to one question."""

  n: int
  ours: float  # share of judgements
  low: float  # of the exact interval (Clopper and Pearson, 1934)
  high: float
  p: float  # of the exact two-sided sign test, that both are as good
  alpha: float | None  # agreement between raters; None where all chose the same
  left: float  # share of what was shown left or first: 1/2, unless raters favour a side


@dataclasses.dataclass(frozen=True)
class Result:
  """The preference for each question, and whose answers it is made of."""

  questions: dict[str, Preference]
  pairs: list[dict]  # of each pair and question: n, and how many chose ours
  raters: int
  failed: dict[str, int]  # rater left out -> wrong or missing answers to checks
  dropped: dict[str, str]  # file -> why its answers are not counted


def analyse(
  answers: Path | Sequence[Path], key: Path, *, allowed: int = 0, confidence: float = 0.95
) -> Result:
  """The preferences in files of answers, or in those of a folder, by the key of their study.

  Raters with more than `allowed` wrong or missing answers to vigilance checks are left out.  Of
  several files of a rater the fullest counts, and of those the first that was finished.

  The interval and the test take judgements for independent, as the paper does by counting them;
  those of one rater or of one pair are not quite, and the true uncertainty is wider.

  ValueError, which names the file, for one that is no answers, or of another study; and where no
  judgement is left.
  """
  if allowed < 0 or not 0 < confidence < 1:
    raise UserError(
      f'Got {allowed} allowed fails and confidence {confidence}; allowed are 0 or more, and '
      'numbers between 0 and 1.'
    )
  known = read_key(key)
  sessions, dropped = read_sessions(answers, known)
  fails = {session.rater: _fails(session, known) for session in sessions}
  failed = {rater: count for rater, count in fails.items() if count > allowed}
  judged = [
    answer
    for session in sessions
    for answer in session.answers
    if session.rater not in failed and known['items'][answer.pair]['kind'] == 'pair'
  ]
  if not judged:
    raise UserError(
      f'No judgement is left: {len(failed)} of {len(sessions)} raters fail more than {allowed} of '
      'the vigilance checks.'
    )
  asked = sorted({answer.question for answer in judged})
  votes = {question: _votes(judged, question, known) for question in asked}
  questions = {
    question: _preference(list(of.values()), _lefts(judged, question), confidence)
    for question, of in votes.items()
  }
  pairs = [
    {'pair': name, 'question': question, 'n': len(of[name]), 'ours': sum(of[name])}
    for question, of in votes.items()
    for name in sorted(of)
  ]
  return Result(questions, pairs, len(sessions) - len(failed), failed, dropped)


def report(
  answers: Path | Sequence[Path], key: Path, *, allowed: int = 0, confidence: float = 0.95
) -> dict:
  """Prints the result of `analyse`; its score, its protocol and its pairs, for a file of JSON."""
  result, known = analyse(answers, key, allowed=allowed, confidence=confidence), read_key(key)
  for file, why in result.dropped.items():
    print(f'{file}: dropped, {why}')
  for rater, count in result.failed.items():
    print(f'{rater}: left out, failed {count} of the vigilance checks')
  print(f'{"":10}{"ours":>7}{"n":>6}{f"{confidence:.0%} interval":>18}{"p":>10}{"alpha":>8}')
  for question, of in result.questions.items():
    interval = f'{of.low:.1%} to {of.high:.1%}'
    alpha = '-' if of.alpha is None else f'{of.alpha:.2f}'
    print(f'{question:10}{of.ours:7.1%}{of.n:6}{interval:>18}{of.p:10.2g}{alpha:>8}')
  protocol = {'pairs_per_rater' if name == 'pairs' else name: known[name] for name in FACTS}
  protocol |= {'raters': result.raters, 'failed': result.failed, 'dropped': result.dropped}
  protocol |= {'allowed_fails': allowed, 'confidence': confidence, 'interval': 'Clopper-Pearson'}
  score = {question: dataclasses.asdict(of) for question, of in result.questions.items()}
  return {'score': score, 'protocol': protocol, 'pairs': result.pairs}


def interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
  """The exact interval of a share of which `k` of `n` were seen (Clopper and Pearson, 1934)."""
  if not 0 <= k <= n or not n:
    raise UserError(f'Got {k} of {n}; allowed are 0 to n of n, which is 1 or more.')
  tail = (1 - confidence) / 2
  low = special.betaincinv(k, n - k + 1, tail) if k else 0.0
  high = special.betaincinv(k + 1, n - k, 1 - tail) if k < n else 1.0
  return float(low), float(high)


def sign_test(k: int, n: int) -> float:
  """The probability that fair coins give `k` of `n`, or what is as far from a half, or farther."""
  return float(min(1.0, 2 * special.bdtr(min(k, n - k), n, 0.5)))


def agreement(units: Iterable[Sequence[Hashable]]) -> float | None:
  """Krippendorff's alpha of nominal values, of any number of raters for each unit.

  1 is agreement, 0 what chance gives.  None where all values are the same or none can be compared.
  Krippendorff, 2011, "Computing Krippendorff's Alpha-Reliability", Sec. C.
  """
  units = [Counter(unit) for unit in units if len(unit) > 1]
  totals = sum(units, Counter())
  n = totals.total()
  expected = n * n - sum(count**2 for count in totals.values())
  observed = sum(
    (unit.total() ** 2 - sum(count**2 for count in unit.values())) / (unit.total() - 1)
    for unit in units
  )
  return 1 - (n - 1) * observed / expected if expected else None


def _fails(session: Session, known: Mapping) -> int:
  """Of a rater, the wrong or missing answers to vigilance checks."""
  given = {(answer.pair, answer.question): answer.choice for answer in session.answers}
  return sum(
    given.get((id, question)) != item['known']
    for id, item in known['items'].items()
    if item['kind'] != 'pair'
    for question in item['questions']
  )


def _votes(judged: Sequence[Answer], question: str, known: Mapping) -> dict[str, list[bool]]:
  """Of each pair, whether each of its raters chose ours."""
  votes = {}
  for answer in judged:
    if answer.question == question:
      item = known['items'][answer.pair]
      votes.setdefault(item['name'], []).append(answer.choice == item['known'])
  return votes


def _lefts(judged: Sequence[Answer], question: str) -> float:
  return float(np.mean([a.choice == a.left for a in judged if a.question == question]))


def _preference(votes: Sequence[Sequence[bool]], left: float, confidence: float) -> Preference:
  n, k = sum(map(len, votes)), sum(map(sum, votes))
  low, high = interval(k, n, confidence)
  return Preference(n, k / n, low, high, sign_test(k, n), agreement(votes), left)
