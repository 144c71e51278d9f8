import base64
import html.parser
import json

import numpy as np
import pytest

from core import video
from evaluation.protocol import write_score
from evaluation.report import MAX_EMBEDDED, MAX_STEPS, evenly_spaced, write_report
from training.phases import PHASES

PROMPTS = ('a red circle', 'a <b>square</b> & more')
VIDEO = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
EMPTY = {'meta', 'img', 'br'}


class Elements(html.parser.HTMLParser):
  """All elements of a page as (tag, attributes), its text, and whether it is well-formed."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.text, self.open = [], '', []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in EMPTY:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data

  def attributes(self, tag):
    return [attrs for name, attrs in self.tags if name == tag]


def run(folder, steps=(10, 20), metrics=True):
  """A workdir as a run leaves it, without checkpoints."""
  workdir = folder / 'run'
  workdir.mkdir()
  data = {'frames': 4, 'size': 16, 'source': 'synthetic'}
  config = {'stage': 'video', 'steps': 30, 'init_from': '', 'data': data}
  (workdir / 'config.json').write_text(json.dumps(config))
  lines = [{'step': 0, 'started': 1.0}]
  for step in range(1, 21):
    seconds = {f'seconds/{phase}': step / 2 for phase in PHASES}
    values = {
      'loss': 2 / step,
      'grad_norm': 1.0 + step,
      'steps_per_s': 2.0 + step % 2,
      'skipped': 0,
    }
    lines.append({'step': step, **values, 'of mine': step * 1.5, **seconds})
  if metrics:
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  for step in steps:
    samples = workdir / 'samples' / f'step_{step:08}'
    samples.mkdir(parents=True)
    for i, prompt in enumerate(PROMPTS):
      video.write(samples / f'{i}.mp4', VIDEO, metadata={'prompt': prompt})
      video.write(samples / f'{i}_xt.png', video.xt_slice(VIDEO)[None])
  return workdir


def page(path):
  return Elements(path.read_text())


def test_a_page_has_curves_samples_and_slices(tmp_path):
  workdir = run(tmp_path)
  path = write_report(workdir)
  assert path == workdir / 'report.html'
  report = page(path)
  captions = report.text
  for title in ('loss', 'norm of gradients', 'seconds a step', 'of mine'):
    assert title in captions
  assert len(report.attributes('svg')) == len(report.attributes('figure')) == 4
  assert 'The same at every step: skipped 0.' in captions
  assert '20 of 30' in captions
  assert '0.1, minimum 0.1 at step 20' in captions
  assert len(report.attributes('video')) == len(report.attributes('img')) == 4
  assert all(prompt in captions for prompt in PROMPTS)
  assert 'step 10' in captions
  assert '2 of 2 steps' in captions


@pytest.mark.parametrize('metric', ['evaluation_loss', 'evaluation_loss_on_training_data'])
def test_the_evaluation_loss_is_beside_that_of_training_by_its_own_name(tmp_path, metric):
  workdir = run(tmp_path, steps=())
  with (workdir / 'metrics.jsonl').open('a') as file:
    for step, loss in ((0, 3.0), (10, 0.5), (20, 0.75)):
      file.write(json.dumps({'step': step, metric: loss}) + '\n')
  report = page(write_report(workdir))
  assert len(report.attributes('figure')) == 4  # none of its own
  assert metric in report.text
  assert '0.75, minimum 0.5 at step 10' in report.text


def test_a_page_is_alone_in_the_world(tmp_path):
  report = page(write_report(run(tmp_path)))
  assert not report.attributes('script')
  assert not report.attributes('link')
  sources = [attrs['src'] for _, attrs in report.tags if 'src' in attrs]
  assert len(sources) == 8
  assert all(source.startswith('data:') for source in sources)


def test_small_files_are_in_the_page_bit_by_bit(tmp_path):
  workdir = run(tmp_path, steps=(10,))
  first, *_ = page(write_report(workdir)).attributes('video')
  kind, data = first['src'].split(';base64,')
  assert kind == 'data:video/mp4'
  assert base64.b64decode(data) == (workdir / 'samples/step_00000010/0.mp4').read_bytes()


def test_large_files_are_linked_where_the_page_is_in_the_workdir_and_named_elsewhere(tmp_path):
  workdir = run(tmp_path, steps=(10,))
  name = 'samples/step_00000010/0.mp4'
  with (workdir / name).open('ab') as file:
    file.write(bytes(MAX_EMBEDDED))
  first, second = page(write_report(workdir)).attributes('video')
  assert first['src'] == name
  assert second['src'].startswith('data:')
  (workdir / 'pages').mkdir()
  first, _ = page(write_report(workdir, workdir / 'pages' / 'a.html')).attributes('video')
  assert first['src'] == f'../{name}'
  outside = page(write_report(workdir, tmp_path / 'a.html'))
  assert len(outside.attributes('video')) == 1
  assert f'{workdir / name}: 0.3 MiB, not shown' in outside.text


def test_of_many_steps_some_are_shown(tmp_path):
  names = [tmp_path / str(i) for i in range(101)]
  assert [path.name for path in evenly_spaced(names, 6)] == ['0', '20', '40', '60', '80', '100']
  assert evenly_spaced(names[:6], 6) == names[:6]
  steps = tuple(range(10, 10 * (MAX_STEPS + 3), 10))
  report = page(write_report(run(tmp_path, steps=steps)))
  assert f'{MAX_STEPS} of {len(steps)} steps' in report.text
  assert len(report.attributes('video')) == MAX_STEPS * len(PROMPTS)


def test_scores_are_in_tables_with_marks_where_protocols_differ(tmp_path):
  workdir = run(tmp_path, steps=())
  folder = workdir / 'evaluation' / 'later'
  folder.mkdir(parents=True)
  write_score(folder / 'a.json', 'fvd', 'step 10', {'fvd': 123.4}, {'clips': 40, 'size': 16})
  write_score(folder / 'b.json', 'fvd', 'step 20', {'fvd': 99.9}, {'clips': 8, 'size': 16})
  (workdir / 'evaluation' / 'shapes.json').write_text('{"score": {"colour": 1}, "protocol": {}}')
  (folder / 'c.json').write_text('[]')
  report = page(write_report(workdir))
  assert len(report.attributes('table')) == 2
  assert report.text.count('†') == 2  # in the row, and in the note
  assert 'clips differ' in report.text
  assert 'c.json is not a JSON object.' in report.text
  assert 'protocol of fvd, step 20' in report.text
  assert 'step 20 †' in report.text


def test_scores_behind_links_and_of_any_name_are_on_the_page(tmp_path):
  workdir = run(tmp_path, steps=())
  (tmp_path / 'kept').mkdir()
  (workdir / 'evaluation').mkdir()
  (workdir / 'evaluation' / 'kept').symlink_to(tmp_path / 'kept')
  (tmp_path / 'kept' / 'round').symlink_to(workdir / 'evaluation')
  write_score(tmp_path / 'kept' / 'a.json', 'fvd', 'caf\udce9 \xe9', {'fvd': 123.4}, {'clips': 40})
  report = page(write_report(workdir))
  assert report.text.count('123.4') == 1
  assert 'caf\\xe9 \xe9' in report.text


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
  report = page(write_report(run(tmp_path, steps=(), metrics=False)))
  for text in ('has no metrics yet', 'no samples yet', 'no scores yet'):
    assert text in report.text


def test_equal_workdirs_make_equal_pages(tmp_path):
  workdir = run(tmp_path)
  first = write_report(workdir).read_bytes()
  assert write_report(workdir).read_bytes() == first


def test_what_is_no_workdir_or_page_is_reported_and_nothing_is_written(tmp_path):
  with pytest.raises(ValueError, match='is no workdir of a run: it has no config'):
    write_report(tmp_path)
  workdir = run(tmp_path)
  with pytest.raises(ValueError, match=r'Got a report of the name .*; allowed is one that ends in'):
    write_report(workdir, workdir / 'a.pdf')
  assert not list(workdir.glob('*.html'))
