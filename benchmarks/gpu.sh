#!/usr/bin/env bash
# What only a machine with one NVIDIA GPU can check and measure, in a few minutes.
cd "$(dirname "$0")/.." || exit
python3 -m pytest -m gpu -n 0 $(grep -l mark.gpu tests/*.py)
tests=$?
python3 -m benchmarks.gpu && exit $tests
