"""Tone mapping of high dynamic range to sRGB: PQ (SMPTE ST 2084) and HLG (ARIB STD-B67)."""

import functools

import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc
from jaxtyping import Float, UInt8, UInt16

# ITU-R BT.2100, Table 4: the constants of PQ.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# The same, Table 5: those of HLG.
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_GAMMA = 1.2  # of the system of HLG, for a display of `PEAK`
# BT.2087, 2: from the linear colours of BT.2020, which are those of BT.2100, to those of BT.709.
_TO_709 = np.array(
  [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020

_HIGH = frozenset((ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67))

WHITE = 203.0  # cd/m2 of diffuse white: ITU-R BT.2408, Table 1
PEAK = 1000.0  # cd/m2 that become the white of sRGB; brighter light is clipped to it
KNEE = 0.3  # of diffuse white: darker light is kept


def is_high(transfer: int) -> bool:
  """Whether a transfer characteristic is one of high dynamic range."""
  return transfer in _HIGH


def to_srgb(
  values: UInt16[np.ndarray, 'h w 3'], transfer: int, primaries: int
) -> UInt8[np.ndarray, 'h w 3']:
  """Coded values of PQ or HLG, of the full range of 16 bits, as sRGB.

  Diffuse white (`WHITE`) is 1 in linear light.  Light up to `KNEE` is kept, and light from there to
  `PEAK` is compressed by a Moebius transformation with a continuous slope, as FFmpeg's
  `tonemap=mobius:param=0.3:desat=0` does: the brightest channel is mapped, and the others keep
  their ratio to it.
  """
  light = _pq()[values] if transfer == ColorTrc.SMPTE2084 else _hlg(values)
  if primaries in (ColorPrimaries.BT2020, ColorPrimaries.UNSPECIFIED):
    light = np.maximum(light @ _TO_709.T, 0)
  largest = np.maximum(light.max(-1, keepdims=True), 1e-6)
  light = light * (_compressed(largest, PEAK / WHITE) / largest)
  return _coded()[np.rint(np.clip(light, 0, 1) * (len(_coded()) - 1)).astype(np.uint16)]


@functools.cache
def _pq() -> Float[np.ndarray, ' n']:
  """The light of each coded value of 16 bits, in units of diffuse white: BT.2100, Table 4."""
  root = np.linspace(0, 1, 2**16) ** (1 / _M2)
  light = (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
  return (10_000 / WHITE * light).astype(np.float32)


@functools.cache
def _hlg_scene() -> Float[np.ndarray, ' n']:
  """The light of the scene of each coded value of 16 bits, from 0 to 1: BT.2100, Table 5."""
  coded = np.linspace(0, 1, 2**16)
  low = coded**2 / 3
  return np.where(coded <= 0.5, low, (np.exp((coded - _C) / _A) + _B) / 12).astype(np.float32)


def _hlg(values) -> Float[np.ndarray, 'h w 3']:
  scene = _hlg_scene()[values]
  luma = np.maximum(scene @ _LUMA, 1e-6)[..., None]
  return PEAK / WHITE * luma ** (_GAMMA - 1) * scene


def _compressed(light, peak: float):
  """Light from `KNEE` to `peak` becomes light from `KNEE` to 1."""
  a = -(KNEE**2) * (peak - 1) / (KNEE**2 - 2 * KNEE + peak)
  b = (KNEE**2 - 2 * KNEE * peak + peak) / (peak - 1)
  scale = (b + KNEE) ** 2 / (b - a)
  return np.where(light > KNEE, scale * (light + a) / (light + b), light)


@functools.cache
def _coded() -> UInt8[np.ndarray, ' n']:
  """The value of 8 bits of each light of 16 bits: IEC 61966-2-1."""
  light = np.linspace(0, 1, 2**16)
  coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
  return np.rint(255 * coded).astype(np.uint8)
