"""Samplers on Gaussian data, against closed forms, the exact result and the documentation."""

import pathlib

import numpy as np
import pytest

from benchmarks import samplers
from benchmarks.samplers import DEVIATIONS, PROCESSES, allowed, deviation
from diffusion.sampling import FIRST_ORDER, SAMPLERS, SPACINGS

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 25


@pytest.fixture(scope='module')
def measured():
  """The relative deviations, by sampler, spacing, process and deviation of the data."""
  return {
    (name, spacing, title, d): deviation(name, process, space(process, STEPS), d)
    for name in SAMPLERS
    for spacing, space in SPACINGS.items()
    for title, process in PROCESSES.items()
    for d in DEVIATIONS
  }


def closed_form(name, process, times, d):
  """The relative deviation of a first-order sampler: a product, or sum of products, over times."""
  log_snr = np.asarray(process.log_snr(times), np.float64)
  alpha, sigma = 1 / np.sqrt(1 + np.exp(-log_snr)), 1 / np.sqrt(1 + np.exp(log_snr))
  of_data = np.hypot(d * alpha, sigma)  # the true deviation of x_t
  if name == 'ddim':
    angles = np.arctan2(sigma, d * alpha)
    return np.cos(np.diff(angles)).prod() / of_data[0] * of_data[-1] / d
  variance = 1 / of_data[0] ** 2  # of x_t, relative to the truth
  for t, s in zip(range(STEPS), range(1, STEPS + 1)):
    correlation = alpha[t] / alpha[s] * of_data[s] / of_data[t]
    fresh = 1 - (alpha[t] * sigma[s] / (alpha[s] * sigma[t])) ** 2
    guess = {'ddpm': 0.5, 'ddpm_learned': d, 'ddpm_small': 0.0}[name]
    left = (guess * sigma[t]) ** 2 / ((guess * alpha[t]) ** 2 + sigma[t] ** 2)
    noise = sigma[s] ** 2 * fresh + (alpha[s] * fresh) ** 2 * left
    variance = correlation**2 * variance + (times[s] > 0) * noise / of_data[s] ** 2
  return np.sqrt(variance) * of_data[-1] / d


@pytest.mark.parametrize('name', sorted(FIRST_ORDER))
def test_samplers_of_first_order_are_their_closed_form(name, measured):
  for (sampler, spacing, title, d), result in measured.items():
    if sampler == name:
      times = SPACINGS[spacing](PROCESSES[title], STEPS)
      want = closed_form(name, PROCESSES[title], times, d)
      assert result == pytest.approx(want, rel=2e-3), (spacing, title, d)


def test_the_closed_form_of_ddpm_with_the_variance_of_the_data_is_a_cosine():
  process, times = PROCESSES['cosine'], SPACINGS['even_times'](PROCESSES['cosine'], STEPS)
  for d in DEVIATIONS:
    last = np.arctan2(np.sin(np.pi / 2 / STEPS), d * np.cos(np.pi / 2 / STEPS))
    result = closed_form('ddpm_learned', process, times, d)
    assert result == pytest.approx(np.cos(last), rel=1e-4)


def test_samplers_of_second_order_are_within_3_percent_of_the_truth_or_refused(measured):
  of_pair = {}
  for (name, spacing, _, _), result in measured.items():
    if name not in FIRST_ORDER:
      of_pair.setdefault((name, spacing), []).append(abs(result - 1))
  assert {spacing for _, spacing in of_pair} == set(SPACINGS)
  for pair, errors in of_pair.items():
    assert len(errors) == len(PROCESSES) * len(DEVIATIONS)
    assert (max(errors) <= 0.03) == allowed(*pair), pair


def test_the_documentation_has_the_table(measured):
  lines = (ROOT / 'docs' / 'sampling.md').read_text().splitlines()
  rows = [line.strip('| ').split(' | ') for line in lines if ' | ' in line]
  rows = {(name, spacing): cells for name, spacing, *cells in rows if name in SAMPLERS}
  assert rows.keys() == {
    (name, spacing if allowed(name, spacing) else f'{spacing}: refused')
    for name in SAMPLERS
    for spacing in SPACINGS
  }
  for (name, spacing), cells in rows.items():
    for title, cell in zip(PROCESSES, cells, strict=True):
      want = [measured[name, spacing.removesuffix(': refused'), title, d] for d in DEVIATIONS]
      np.testing.assert_allclose([float(x) for x in cell.split(', ')], want, atol=1.1e-3)


def test_the_command_prints_the_table_of_other_steps(monkeypatch):
  monkeypatch.setattr(samplers, 'PROCESSES', {'cosine': PROCESSES['cosine']})
  monkeypatch.setattr(samplers, 'SAMPLERS', {'ddim': SAMPLERS['ddim']})
  lines = samplers.table(64).splitlines()
  assert lines[:2] == ['| sampler | spacing | cosine |', '|---|---|---|']
  name, spacing, cell = lines[2].strip('| ').split(' | ')
  assert (name, spacing) == ('ddim', 'even_angles')
  best = np.cos(np.pi / 2 / 64) ** 64  # at times that are even for the data itself
  assert float(cell.split(', ')[0]) == pytest.approx(best, abs=2e-3)
