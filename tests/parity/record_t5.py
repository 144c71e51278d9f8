"""Records what transformers makes of a tiny T5, for those who have it not.

python -m tests.parity.record_t5

Writes tests/text/recorded/: a T5 of random weights as `save_pretrained` does, what it answers, and,
where LUMIERE_DATA is set, the tokens of T5 of some texts.
"""

import json
import os
import pathlib

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from tests.text import unigram

OUT = pathlib.Path(__file__).resolve().parent.parent / 'text' / 'recorded'
SIZES = {
  'vocab_size': 64,
  'd_model': 16,
  'num_heads': 3,
  'd_kv': 8,
  'd_ff': 24,
  'num_layers': 2,
  'relative_attention_num_buckets': 12,
  'relative_attention_max_distance': 20,
}
SPECIAL = {'pad_token': '<pad>', 'eos_token': '</s>', 'unk_token': '<unk>'}
PROMPTS = ['a red circle moving', '', 'A  Blue zebra?', 'circle ' * 30]
TEXTS = [
  '', ' ', 'a', 'A red circle', 'two  spaces   and\ttabs\nand lines', '  stripped  ', 'UPPER CASE',
  'A photo of a panda playing a guitar, 4k, highly detailed!', "it's the dog's ball", '3.14159 + 2',
  'well-known state_of_the_art', 'https://example.com/?q=1&r=2', '(brackets) [and] {braces}', '"q"',
  'naïve café', 'nai\u0308ve cafe\u0301', 'ﬁne ½ ² ™ … ①', 'Straße ẞ', 'İstanbul', 'ПРИВЕТ мир',
  'Ελλάδα', '日本語の文章', '한국어', 'नमस्ते', 'สวัสดี', 'مرحبا', 'שלום', '🎉', 'a 🎉 party 🎉🎉',
  '👨‍👩‍👧 ❤️', 'full\u3000width \uff21\uff22', 'no\u00a0break', 'zero\u200bwidth',
  'soft\u00adhyphen', '\ufeffmark', '\u212bngstrom \u212a',
  '▁ a▁b', '<', '<extra', 'ångström über großmütig', 'supercalifragilisticexpialidocious',
  'word ' * 200, 'a' * 300,
]  # fmt: skip


def perturbed(model, seed=0):
  """The model, in which no norm is one and no distance is like another."""
  generator = torch.Generator().manual_seed(seed)
  for name, p in model.named_parameters():
    noise = torch.randn(p.shape, generator=generator)
    with torch.no_grad():
      if 'layer_norm' in name:
        p.copy_(1 + 0.3 * noise)
      elif 'relative_attention_bias' in name:
        p.copy_(noise)
      else:
        p.copy_(noise * p.std())
  return model.eval()


def answers(model, ids, mask) -> np.ndarray:
  """The embeddings of numpy's arrays of tokens."""
  with torch.no_grad():
    inputs = torch.from_numpy(ids).long(), torch.from_numpy(mask).long()
    return model(*inputs).last_hidden_state.float().numpy()


def tokens(path, texts, n):
  """What DeepFloyd IF makes of texts: `input_ids` and `attention_mask`, as numpy's arrays."""
  tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), **SPECIAL)
  shape = {'padding': 'max_length', 'max_length': n, 'truncation': True, 'return_tensors': 'np'}
  made = tokenizer([text.lower().strip() for text in texts], **shape)
  return made['input_ids'].astype(np.int32), made['attention_mask'].astype(bool)


def record() -> None:
  torch.manual_seed(0)
  config = T5Config(**SIZES, feed_forward_proj='gated-gelu')
  model = perturbed(T5EncoderModel(config))
  model.save_pretrained(OUT / 't5')
  (OUT / 't5' / 'model.safetensors').chmod(0o644)
  ids, mask = tokens(unigram.write(OUT / 't5' / 'tokenizer.json'), PROMPTS, 20)
  np.savez_compressed(OUT / 't5.npz', ids=ids, mask=mask, embeddings=answers(model, ids, mask))
  if data := os.environ.get('LUMIERE_DATA'):
    path = pathlib.Path(data, 'tokenizers', 't5-small_tokenizer.json')
    lines = [json.dumps([t, row[m].tolist()]) for t, row, m in zip(TEXTS, *tokens(path, TEXTS, 77))]
    (OUT / 'tokens.json').write_text('[\n' + ',\n'.join(lines) + '\n]\n')


if __name__ == '__main__':
  record()
