"""Times steps of a PyTorch U-Net that `lumiere-pytorch` inflates.

`lumiere_pytorch.py` starts it with another environment's Python, in isolated mode, so that Python
does not import the file of the library's name from this folder.

The shape is the first argument, in JSON.  For each line on stdin, 'train' or 'sample', it makes one
step and prints the seconds.  The first line on stdout has parameters, operations and versions.
"""

import contextlib
import json
import math
import sys
import time
from importlib import metadata

import torch
import torch.nn.functional as F
from lumiere_pytorch import Lumiere
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class ResBlock(nn.Module):
  """(norm, silu, conv) twice; the embedding scales and shifts before the second silu."""

  def __init__(self, features_in, features, emb_features, groups):
    super().__init__()
    self.norm1 = nn.GroupNorm(groups, features_in)
    self.conv1 = nn.Conv2d(features_in, features, 3, padding=1)
    self.emb = nn.Linear(emb_features, 2 * features)
    self.norm2 = nn.GroupNorm(groups, features)
    self.conv2 = nn.Conv2d(features, features, 3, padding=1)
    self.skip = nn.Identity() if features_in == features else nn.Conv2d(features_in, features, 1)

  def forward(self, x, emb):
    """The output features of the block."""
    scale, shift = self.emb(emb)[:, :, None, None].chunk(2, dim=1)
    h = self.conv1(F.silu(self.norm1(x)))
    h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
    return self.skip(x) + h


class Attention(nn.Module):
  """Attention of every pixel to the text and to all pixels of the frame."""

  def __init__(self, features, text_features, head_features, groups):
    super().__init__()
    self.heads = features // head_features
    self.norm, self.norm_text = nn.GroupNorm(groups, features), nn.GroupNorm(groups, text_features)
    self.qkv = nn.Linear(features, 3 * features)
    self.text_kv = nn.Linear(text_features, 2 * features)
    self.proj = nn.Linear(features, features)

  def forward(self, x, text):
    """The features plus the output of attention."""
    by_head = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    query, key, value = self.qkv(pixels).chunk(3, dim=-1)
    text = self.norm_text(text.transpose(1, 2)).transpose(1, 2)
    text_key, text_value = self.text_kv(text).chunk(2, dim=-1)
    key, value = torch.cat([text_key, key], 1), torch.cat([text_value, value], 1)
    y = F.scaled_dot_product_attention(by_head(query), by_head(key), by_head(value))
    y = self.proj(y.transpose(1, 2).flatten(2))
    return x + y.transpose(1, 2).unflatten(-1, x.shape[2:])


class Unit(nn.Module):
  """A residual block, and attention where a level has it."""

  def __init__(self, features_in, features, attention, shape):
    super().__init__()
    groups = shape['groups']
    self.block = ResBlock(features_in, features, shape['emb_features'], groups)
    heads = shape['head_features']
    text = shape['width']
    self.attention = Attention(features, text, heads, groups) if attention else None

  def forward(self, x, emb, text):
    """The output features of the unit."""
    x = self.block(x, emb)
    return x if self.attention is None else self.attention(x, text)


class Pooling(nn.Module):
  """Attention pooling of text to a vector: the mean token is the query, and together with all
  tokens also the keys and values."""

  def __init__(self, width, features, heads):
    super().__init__()
    self.heads = heads
    self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(features)
    self.position = nn.Parameter(torch.randn(1, 1, width) / math.sqrt(width))
    self.query, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
    self.proj = nn.Linear(width, features)

  def forward(self, text):
    """The vector of each text."""
    by_head = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
    text = self.norm_in(text)
    query = text.mean(1, keepdim=True) + self.position
    key, value = self.kv(torch.cat([query, text], 1)).chunk(2, dim=-1)
    y = F.scaled_dot_product_attention(*map(by_head, (self.query(query), key, value)))
    return self.norm_out(self.proj(y.transpose(1, 2).flatten(1)))


class UNet(nn.Module):
  """A text-to-image model of the same widths, depths, attention and resampling as `STUNet`."""

  def __init__(self, shape):
    super().__init__()
    self.shape, widths = shape, shape['channels']
    self.frequencies, emb = widths[0], shape['emb_features']
    self.time = nn.Sequential(nn.Linear(widths[0], emb), nn.SiLU(), nn.Linear(emb, emb))
    self.pool = Pooling(shape['width'], emb, shape['pool_heads'])
    self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
    attends = [kind == 'joint' for kind in shape['attention']]
    unit = lambda features_in, i, attention=True: Unit(
      features_in, widths[i], attention and attends[i], shape
    )

    skips, self.down, self.downsample = [], nn.ModuleList(), nn.ModuleList()
    for i, (width, blocks) in enumerate(zip(widths, shape['down_units'])):
      if i > 0:
        self.downsample.append(nn.Conv2d(widths[i - 1], width, 3, stride=2, padding=1))
      self.down.append(nn.ModuleList(unit(width, i) for _ in range(blocks)))
      skips.append([width] * (blocks + 1))
    last = len(widths) - 1
    self.middle = nn.ModuleList([unit(widths[-1], last), unit(widths[-1], last, attention=False)])
    self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
    for i, (width, blocks) in reversed([*enumerate(zip(widths, shape['up_units']))]):
      self.up.append(nn.ModuleList(unit(width + skips[i].pop(), i) for _ in range(blocks)))
      if i > 0:
        conv = nn.Conv2d(width, widths[i - 1], 3, padding=1)
        self.upsample.append(nn.Sequential(conv, nn.Upsample(scale_factor=2)))
    self.norm_out = nn.GroupNorm(shape['groups'], widths[0])
    self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

  def forward(self, x, time, text=None):
    """The predicted noise of frames, each with its own time and text."""
    if text is None:  # the library calls it without text to find the shapes of outputs
      text = x.new_zeros(len(x), self.shape['tokens'], self.shape['width'])
    emb = F.silu(self.time(waves(time, self.frequencies)) + self.pool(text))
    x, levels = self.conv_in(x), []
    for i, units in enumerate(self.down):
      if i > 0:
        x = self.downsample[i - 1](x)
      outputs = [x]
      for unit in units:
        outputs.append(x := unit(x, emb, text))
      levels.append(outputs)
    for unit in self.middle:
      x = unit(x, emb, text)
    for i, units in enumerate(self.up):
      outputs = levels.pop()
      for unit in units:
        x = unit(torch.cat([x, outputs.pop()], 1), emb, text)
      if i < len(self.upsample):
        x = self.upsample[i](x)
    return self.conv_out(F.silu(self.norm_out(x)))


def waves(time, features):
  """The sinusoidal embedding of times in [0, 1], which are multiplied by 1000."""
  exponents = torch.arange(features // 2, device=time.device) / (features // 2)
  angles = 1000 * time[:, None] * torch.exp(-math.log(10_000) * exponents)
  return torch.cat([angles.cos(), angles.sin()], -1)


def inflated(shape):
  """The U-Net, inflated by the library, with its temporal blocks where our U-Net has ours.

  There is a temporal convolution after every unit, except at the coarsest level, where there is
  temporal attention; temporal resampling follows each spatial resampling.
  """
  last = len(shape['channels']) - 1
  down = [[f'down.{i}.{j}' for j in range(n)] for i, n in enumerate(shape['down_units'])]
  # Up modules are in the order in which they run, so the coarsest level is the first.
  blocks = reversed(shape['up_units'])
  coarsest, *up = [[f'up.{i}.{j}' for j in range(n)] for i, n in enumerate(blocks)]
  return Lumiere(
    UNet(shape),
    image_size=shape['size'],
    unet_time_kwarg='time',
    conv_module_names=[name for level in (*down[:last], *up) for name in level],
    attn_module_names=[*down[last], 'middle.0', 'middle.1', *coarsest],
    downsample_module_names=[f'downsample.{i}' for i in range(last)],
    upsample_module_names=[f'upsample.{i}' for i in range(last)],
    # Attention is not fused, which is the default and faster for so few frames.
    attn_inflation_kwargs={
      'heads': shape['channels'][-1] // shape['head_features'],
      'dim_head': shape['head_features'],
    },
  )


class Steps:
  """A step of training and one of sampling, each a method without arguments."""

  def __init__(self, shape):
    torch.manual_seed(0)
    model = inflated(shape)
    if shape['channels_last']:
      model.model.to(memory_format=torch.channels_last)
      model.convs.to(memory_format=torch.channels_last)
    self.parameters = list(model.parameters())  # the library returns only those of temporal blocks
    self.frozen = list(model.model.parameters())
    self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0)
    self.model = torch.compile(model) if shape['compile'] else model
    b, t, s = shape['batch'], shape['frames'], shape['size']
    self.clip = 2 * torch.rand(b, 3, t, s, s) - 1
    self.text = torch.randn(b, shape['tokens'], shape['width'])

  def train(self):
    """Noise, forward, backward, clipping and AdamW."""
    time, noise = torch.rand(len(self.clip)), torch.randn_like(self.clip)
    alpha, sigma = coefficients(time)
    predicted = self.model(alpha * self.clip + sigma * noise, time=time, text=self.text)
    self.optimizer.zero_grad(set_to_none=True)
    F.mse_loss(predicted, noise).backward()
    nn.utils.clip_grad_norm_(self.parameters, 1.0)
    self.optimizer.step()

  @torch.inference_mode()
  def sample(self):
    """One update of DDIM."""
    now, then = torch.full((len(self.clip),), 0.5), torch.full((len(self.clip),), 0.48)
    noise = self.model(self.clip, time=now, text=self.text)
    (alpha, sigma), (alpha2, sigma2) = coefficients(now), coefficients(then)
    return alpha2 * (self.clip - sigma * noise) / alpha + sigma2 * noise


def coefficients(time):
  """Alpha and sigma of the cosine schedule at times in [0, 1]."""
  time = time[:, None, None, None, None] * math.pi / 2
  return time.cos(), time.sin()


def operations(step):
  """The operations of products and convolutions; the counter does not count fused attention."""
  with contextlib.ExitStack() as stack:
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    counter = stack.enter_context(FlopCounterMode(display=False))
    step()
  return counter.get_total_flops()


def main():
  shape = json.loads(sys.argv[1])
  torch.set_num_threads(shape['threads'])
  timed = Steps(shape)
  steps = {'train': timed.train, 'sample': timed.sample}
  plain = Steps(shape | {'compile': False})  # the counter does not count compiled code
  print_json(
    flops={name: operations(getattr(plain, name)) for name in steps},
    trained=sum(p.numel() for p in timed.parameters),
    frozen=sum(p.numel() for p in timed.frozen),
    threads=torch.get_num_threads(),
    versions={name: metadata.version(name) for name in ('torch', 'lumiere-pytorch')},
  )
  del plain
  for line in sys.stdin:
    begin = time.perf_counter()
    steps[line.strip()]()
    print_json(seconds=time.perf_counter() - begin)


def print_json(**values):
  """Prints one line of JSON."""
  print(json.dumps(values), flush=True)


if __name__ == '__main__':
  main()
