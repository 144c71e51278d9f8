"""The preferences of raters in a user study, with their statistical significance."""

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
  ours: float  # the share of answers that prefer ours
  low: float  # the bounds of the exact interval (Clopper and Pearson, 1934)
  high: float
  p: float  # the p-value of the exact two-sided sign test
  alpha: float | None  # the agreement of raters; None where all chose the same
  left: float  # the share that chose the left or first video; about 1/2 without a bias


@dataclasses.dataclass(frozen=True)
class Result:
  """The preference for each question, and which answers it is based on."""

  questions: dict[str, Preference]
  pairs: list[dict]  # for each pair and question, n and the number that chose ours
  raters: int
  failed: dict[str, int]  # excluded rater -> number of failed vigilance checks
  dropped: dict[str, str]  # file -> the reason why its answers are not counted


def analyse(
  answers: Path | Sequence[Path], key: Path, *, allowed: int = 0, confidence: float = 0.95
) -> Result:
  """The preferences of the raters, by the key of their study.

  answers: a folder of .json files, or the files.
  allowed: raters with more wrong or missing answers to vigilance checks are excluded.

  If a rater has several files, the one with most answers counts; of those, the first that was
  finished.  The interval and the test assume that answers are independent, as the paper does.
  Answers of one rater, or to one pair, are not quite independent, so that the true uncertainty is
  larger.  UserError, which names the file, where a file has no answers or belongs to another study;
  and where no answer is left.
  """
  if allowed < 0 or not 0 < confidence < 1:
    raise UserError(
      f'Got {allowed} allowed fails and confidence {confidence}; allowed are 0 or more, and '
      'numbers between 0 and 1.'
    )
  key = read_key(key)
  sessions, dropped = read_sessions(answers, key)
  fails = {session.rater: _failed_checks(session, key) for session in sessions}
  failed = {rater: count for rater, count in fails.items() if count > allowed}
  judged = [
    answer
    for session in sessions
    for answer in session.answers
    if session.rater not in failed and key['items'][answer.pair]['kind'] == 'pair'
  ]
  if not judged:
    raise UserError(
      f'No judgement is left: {len(failed)} of {len(sessions)} raters fail more than {allowed} of '
      'the vigilance checks.'
    )
  asked = sorted({answer.question for answer in judged})
  votes = {question: _votes(judged, question, key) for question in asked}
  questions = {
    question: _preference(list(by_pair.values()), _left_share(judged, question), confidence)
    for question, by_pair in votes.items()
  }
  pairs = [
    {'pair': name, 'question': question, 'n': len(by_pair[name]), 'ours': sum(by_pair[name])}
    for question, by_pair in votes.items()
    for name in sorted(by_pair)
  ]
  return Result(questions, pairs, len(sessions) - len(failed), failed, dropped)


def print_report(
  answers: Path | Sequence[Path], key: Path, *, allowed: int = 0, confidence: float = 0.95
) -> dict:
  """Prints the result of `analyse`, and returns its score, protocol and pairs for a JSON file."""
  result = analyse(answers, key, allowed=allowed, confidence=confidence)
  facts = read_key(key)
  for file, why in result.dropped.items():
    print(f'{file}: dropped, {why}')
  for rater, count in result.failed.items():
    print(f'{rater}: excluded, failed {count} of the vigilance checks')
  print(f'{"":10}{"ours":>7}{"n":>6}{f"{confidence:.0%} interval":>18}{"p":>10}{"alpha":>8}')
  for question, preference in result.questions.items():
    bounds = f'{preference.low:.1%} to {preference.high:.1%}'
    alpha = '-' if preference.alpha is None else f'{preference.alpha:.2f}'
    counts = f'{preference.ours:7.1%}{preference.n:6}'
    print(f'{question:10}{counts}{bounds:>18}{preference.p:10.2g}{alpha:>8}')
  protocol = {'pairs_per_rater' if name == 'pairs' else name: facts[name] for name in FACTS}
  protocol |= {'raters': result.raters, 'failed': result.failed, 'dropped': result.dropped}
  protocol |= {'allowed_fails': allowed, 'confidence': confidence, 'interval': 'Clopper-Pearson'}
  score = {question: dataclasses.asdict(one) for question, one in result.questions.items()}
  return {'score': score, 'protocol': protocol, 'pairs': result.pairs}


def interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
  """The exact interval of a share after `k` successes of `n` (Clopper and Pearson, 1934)."""
  if not 0 <= k <= n or not n:
    raise UserError(f'Got {k} of {n}; allowed are 0 to n of n, which is 1 or more.')
  tail = (1 - confidence) / 2
  low = special.betaincinv(k, n - k + 1, tail) if k else 0.0
  high = special.betaincinv(k + 1, n - k, 1 - tail) if k < n else 1.0
  return float(low), float(high)


def sign_test(k: int, n: int) -> float:
  """The probability that `n` fair coins give `k` heads or a number at least as far from n / 2."""
  return float(min(1.0, 2 * special.bdtr(min(k, n - k), n, 0.5)))


def agreement(units: Iterable[Sequence[Hashable]]) -> float | None:
  """Krippendorff's alpha for nominal values, with any number of raters for each unit.

  1 is perfect agreement, and 0 the agreement of chance.  None where all values are equal or none
  can be compared.  Krippendorff, 2011, "Computing Krippendorff's Alpha-Reliability", Sec. C.
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


def _failed_checks(session: Session, key: Mapping) -> int:
  """The number of wrong or missing answers of a rater to vigilance checks."""
  choices = {(answer.pair, answer.question): answer.choice for answer in session.answers}
  return sum(
    choices.get((id, question)) != item['known']
    for id, item in key['items'].items()
    if item['kind'] != 'pair'
    for question in item['questions']
  )


def _votes(judged: Sequence[Answer], question: str, key: Mapping) -> dict[str, list[bool]]:
  """For each pair, whether each of its raters chose ours."""
  votes = {}
  for answer in judged:
    if answer.question == question:
      item = key['items'][answer.pair]
      votes.setdefault(item['name'], []).append(answer.choice == item['known'])
  return votes


def _left_share(judged: Sequence[Answer], question: str) -> float:
  return float(np.mean([a.choice == a.left for a in judged if a.question == question]))


def _preference(votes: Sequence[Sequence[bool]], left: float, confidence: float) -> Preference:
  n, k = sum(map(len, votes)), sum(map(sum, votes))
  low, high = interval(k, n, confidence)
  return Preference(n, k / n, low, high, sign_test(k, n), agreement(votes), left)
