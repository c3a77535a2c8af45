#!/usr/bin/env bash
# Has clang check every source of a build, tests included, with the build's warnings as errors and no code generated. A long test.
#
#   tests/compilers/clang_warnings.sh BUILD SOURCE [NAME-PATTERN]
#
# Exit status: 0 no warning, 1 warnings (printed), 77 clang is missing.
set -euo pipefail
build=$(realpath "$1")
source=$(realpath "$2")
clang=$(command -v clang++-14 || command -v clang++ || true)
if [ -z "$clang" ]; then
  echo "clang_warnings.sh: skipped: clang is not installed"
  exit 77
fi
# What g++ alone understands goes; the rest of each command stays.
mapfile -t commands < <(jq -r --arg source "$source/" --arg clang "$clang" --arg pattern "${3-.}" '
  .[] | select((.file | startswith($source)) and (.file | endswith(".cpp")) and (.file | test($pattern))) |
  "cd \(.directory) && " + (.command | sub("^(\\S*ccache )?\\S+ "; "\($clang) -fsyntax-only -Werror ") | sub(" -o \\S+"; "") | gsub(" -Wno-restrict"; ""))
' "$build/compile_commands.json")
[ "${#commands[@]}" -gt 0 ] || { echo "clang_warnings.sh: $build/compile_commands.json names no such source" >&2; exit 1; }
printf '%s\0' "${commands[@]}" | xargs -0 -n 1 -P "${JSQ_TEST_JOBS:-2}" bash -c
echo "${#commands[@]} sources, no warning"
