#!/usr/bin/env bash
# Runs clang-tidy with .clang-tidy over the sources of a build's product. Takes some ten minutes, so it is a long test.
#
#   tests/tidy.sh BUILD SOURCE
#
# Exit status: 0 nothing found, 1 found (printed), 77 clang-tidy is missing.
set -euo pipefail
build=$(realpath "$1")
source=$(realpath "$2")
tidy=$(command -v clang-tidy-14 || command -v clang-tidy || true)
if [ -z "$tidy" ]; then
  echo "tidy.sh: skipped: clang-tidy is not installed"
  exit 77
fi
mapfile -t files < <(jq -r '.[].file' "$build/compile_commands.json" | grep -E "^$source/(kernels|lib|formats|tools)/.*\.cpp$" | sort -u)
[ "${#files[@]}" -gt 100 ] || { echo "tidy.sh: $build/compile_commands.json names only ${#files[@]} sources" >&2; exit 1; }
cd "$source"
printf '%s\0' "${files[@]}" | xargs -0 -n 8 -P "$(nproc)" "$tidy" --quiet -p "$build" --extra-arg=-Wno-unknown-warning-option 2>/dev/null  # options of g++ alone
echo "${#files[@]} sources, nothing found"
