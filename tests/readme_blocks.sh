#!/usr/bin/env bash
# Runs the ```bash blocks of a README one after another in one shell, in a scratch folder with the dumps of samples/, the
# built program first in PATH. Blocks of any other kind are only for reading.
#
#   tests/readme_blocks.sh README.md JSQ SAMPLES
set -euo pipefail
if [ $# -ne 3 ]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
readme=$(realpath "$1")
program=$(realpath "$2")
samples=$(realpath "$3")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin" "$scratch/tour"
ln -s "$program" "$scratch/bin/jsq"
cp "$samples"/*.npy "$samples"/*.h5 "$scratch/tour"

awk '/^```bash[ \t]*$/ { inside = 1; ++blocks; print "echo \"== block " blocks ", line " NR + 1 " ==\""; next }
     /^```/ { inside = 0; next }
     inside { print }' "$readme" >"$scratch/blocks.sh"
if [ ! -s "$scratch/blocks.sh" ]; then
  echo "readme_blocks.sh: $1 has no \`\`\`bash block to run" >&2
  exit 1
fi

cd "$scratch/tour"
PATH="$scratch/bin:$PATH" bash -euo pipefail -x "$scratch/blocks.sh"
