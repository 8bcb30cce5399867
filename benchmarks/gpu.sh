#!/usr/bin/env bash
# What only a machine with one NVIDIA GPU can check and measure, in a few minutes.
cd "$(dirname "$0")/.." || exit
python3 -m pytest -o addopts= -m gpu $(grep -l mark.gpu tests/*.py) # without pytest-xdist
tests=$?
python3 -m benchmarks.gpu && exit $tests
