"""Tests of `streams.codec`."""
