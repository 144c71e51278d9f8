"""Records what torch's networks make of weights and videos that both sides can draw.

python -m tests.parity.record_features

Writes tests/evaluation/features/recorded/: the names and shapes of the weights of each network, and
its output, but neither the weights nor the input.
"""

import gzip
import json
import os
import pathlib

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from benchmarks.features_worker import I3D
from tests.evaluation.features import drawn
from tests.parity import networks
from tests.parity.record_t5 import TEXTS

OUT = pathlib.Path(__file__).resolve().parents[1] / 'evaluation' / 'features' / 'recorded'
TEXT = pathlib.Path(__file__).resolve().parents[1] / 'text' / 'recorded'
CLIP = (2, 17, 37, 42, 3)  # odd and uneven, so that nothing is padded by chance
C3D_CLIP = (2, 16, 48, 40, 3)
IMAGES = (3, 24, 24, 3)
CLIP_SIZES = {'hidden_size': 32, 'num_hidden_layers': 3, 'num_attention_heads': 4}
CLIP_SIZES |= {'image_size': 24, 'patch_size': 8, 'intermediate_size': 128}
TEXT_SIZES = {'hidden_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 3}
TEXT_SIZES |= {'vocab_size': 50, 'bos_token_id': 48, 'eos_token_id': 49, 'intermediate_size': 96}
WORDS = [
  "it's",
  "WE'LL, they've",
  '1234',
  'a' * 200,
  'word ' * 100,
  '<|EndOfText|>',
  "'",
  "''s 's",
  'don\u2019t',
  '!?...',
  '\u03a3\u0391\u03a3 \u03c3\u03b1\u03c2',
  'a\x85b\x1cc',
  'e\u0301e',
  'photo of a cat, 4k.',
  'x' + 'é' * 80,
]
C3D_SIZES = {'channels': (8, 16, 24, 32, 40), 'hidden': 48}


def shapes(model) -> dict[str, tuple[int, ...]]:
  """Those of weights; a count of batches is none."""
  state = model.state_dict().items()
  return {name: tuple(p.shape) for name, p in state if p.is_floating_point()}


def filled(model):
  """The model with the weights that are drawn for its names, for inference."""
  state = {name: torch.from_numpy(x) for name, x in drawn.weights(shapes(model)).items()}
  model.load_state_dict(state, strict=False)
  return model.eval()


def answer(model, video: np.ndarray) -> np.ndarray:
  """What it says of `b t h w c`."""
  with torch.no_grad():
    return model(torch.from_numpy(video).permute(0, 4, 1, 2, 3)).numpy()


def clip(image: dict, text: dict, **sizes) -> CLIPModel:
  """A CLIP of transformers, of embeddings of 24 if `sizes` do not say."""
  sizes = {'projection_dim': 24} | sizes
  return CLIPModel(CLIPConfig(vision_config=image, text_config=text, **sizes))


def clip_answers(model, vocabulary: int, images: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """The embeddings of images and texts that are drawn, not made units."""
  pixels = torch.from_numpy(drawn.normal('images', images)).permute(0, 3, 1, 2)
  ids = torch.from_numpy(drawn.tokens(vocabulary)).long()
  with torch.no_grad():
    seen = model.visual_projection(model.vision_model(pixels).pooler_output)
    read = model.text_projection(model.text_model(ids).pooler_output)
    outputs = model(input_ids=ids, pixel_values=pixels)
  unit = lambda x: x / x.norm(dim=-1, keepdim=True)
  torch.testing.assert_close(outputs.image_embeds, unit(seen))
  torch.testing.assert_close(outputs.text_embeds, unit(read))
  return seen.numpy(), read.numpy()


def tokens(data: str, texts) -> np.ndarray:
  """What CLIPTokenizer makes of texts, with OpenAI's vocabulary."""
  path = pathlib.Path(data, 'tokenizers', 'clip_bpe_simple_vocab_16e6.txt.gz')
  merges = [tuple(line.split()) for line in gzip.decompress(path.read_bytes()).decode().split('\n')]
  merges = merges[1 : 49152 - 256 - 2 + 1]
  letters = sorted(set(bytes_to_unicode().values()), key=lambda c: (ord(c) > 255, ord(c)))
  pieces = [*letters, *(letter + '</w>' for letter in letters), *map(''.join, merges)]
  pieces += ['<|startoftext|>', '<|endoftext|>']
  tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges)
  shape = {'padding': 'max_length', 'max_length': 77, 'truncation': True, 'return_tensors': 'np'}
  return tokenizer(list(texts), **shape)['input_ids']


def record() -> None:
  OUT.mkdir(exist_ok=True)
  model = filled(I3D())
  drawn.record(OUT / 'i3d.npz', shapes(model), answer(model, drawn.normal('video', CLIP)))
  model = filled(networks.C3D(**C3D_SIZES, last=(2, 2)))
  # The mean has pixels of its own wherever it may be cut out.
  mean = drawn.normal('mean', (3, 16, 128, 171)).transpose(1, 2, 3, 0)
  video = drawn.normal('video', C3D_CLIP) - mean[:, 8:56, 8:48]
  drawn.record(OUT / 'c3d.npz', shapes(model), answer(model, video))
  model = filled(clip(CLIP_SIZES, TEXT_SIZES))
  drawn.record(OUT / 'clip.npz', shapes(model), np.stack(clip_answers(model, 50, IMAGES)))
  if data := os.environ.get('LUMIERE_DATA'):
    texts = TEXTS + WORDS
    rows = [row[: row.argmax() + 1].tolist() for row in tokens(data, texts)]
    lines = [json.dumps([text, row]) for text, row in zip(texts, rows)]
    (TEXT / 'clip_tokens.json').write_text('[\n' + ',\n'.join(lines) + '\n]\n')


if __name__ == '__main__':
  record()
