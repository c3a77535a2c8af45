#!/usr/bin/env bash
# Every C, C++ and CUDA source is as clang-format 14 and .clang-format lay it out; says which are not, and how to mend them.
#
#   tests/format.sh SOURCE
set -euo pipefail
cd "$1"
if [ -e .git ]; then mapfile -t sources < <(git ls-files '*.cpp' '*.hpp' '*.c' '*.h' '*.cu' '*.cuh')
else mapfile -t sources < <(find formats kernels lib samples tests tools -name '*.[ch]pp' -o -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh'); fi
program=$(command -v clang-format-14 || command -v clang-format)
different=()
for source in "${sources[@]}"; do
  "$program" --style=file "$source" | cmp -s - "$source" || different+=("$source")
done
[ ${#different[@]} -gt 0 ] || { echo "${#sources[@]} sources are formatted"; exit 0; }
echo "${#different[@]} of ${#sources[@]} sources differ from .clang-format; clang-format -i ${different[*]}" >&2
exit 1
