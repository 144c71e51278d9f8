"""Sampling: `from pipelines import Pipeline`."""

from pipelines.pipeline import Pipeline

__all__ = ['Pipeline']
