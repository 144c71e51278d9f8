"""Folders of videos for small user studies, and the content of their pages."""

import base64
import json
import re

import numpy as np

from core import video

NAMES = [f'{i:03}_a_secret_name' for i in range(4)]
FEW = {'pairs': 4, 'vigilance': 2, 'size': 16, 'fps': 8.0}
RED, BLUE = (200, 40, 40), (40, 40, 200)


def clip(colour, height=16, width=24, frames=6):
  """A clip of one colour with a white bar that moves."""
  out = np.full((frames, height, width, 3), colour, np.uint8)
  for t in range(frames):
    out[t, (3 * t) % height] = 255
  return out


def folder_of(root, name, colour, *, prompts=True, fps=8.0, names=NAMES, **shape):
  """A folder of these clips, with their prompts."""
  folder = root / name
  folder.mkdir()
  for one in names:
    video.write(folder / f'{one}.mp4', clip(colour, **shape), fps=fps)
  if prompts:
    lines = [json.dumps({'file': f'{one}.mp4', 'prompt': f'of {one[:3]}'}) for one in names]
    (folder / 'index.jsonl').write_text('\n'.join(lines))
  return folder


def two_in(root):
  """Folders of two systems whose videos differ in frame rate, size and length."""
  theirs = folder_of(root, 'theirs', BLUE, prompts=False, fps=16.0, height=32, width=20, frames=9)
  return folder_of(root, 'ours', RED), theirs


def page_data(page):
  """The data in the script of the page."""
  text = re.search(r'id="study">(.*?)</script>', page.read_text(), re.DOTALL).group(1)
  return json.loads(text)


def embedded_videos(page):
  """The files that the page embeds, by name."""
  result = re.findall(r'id="v(\w+)">([^<]+)<', page.read_text())
  return {id: base64.b64decode(data) for id, data in result}
