#!/bin/bash
# Makes everything in this folder that is not source: frames/ with libjsq's encoder, synthetic/ and corrupt/ field by field
# after SPEC.md, and expected.tsv with the independent decoder. Review the result as a diff.
#
#   make_golden.sh PROGRAM           renews this folder; PROGRAM is the build's make_golden
#   make_golden.sh --check PROGRAM   makes everything elsewhere, and fails where it differs from this folder
set -euo pipefail

check=false
if [[ ${1:-} == --check ]]; then
  check=true
  shift
fi
if [[ $# -ne 1 ]]; then
  sed -n 's/^# \{0,1\}//p' "$0" | sed 1d >&2
  exit 2
fi
program=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONDONTWRITEBYTECODE=1

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir "$made"/{frames,synthetic,corrupt}
"$program" "$made/frames" "$here/../../samples"
/usr/bin/python3 "$here/make_synthetic.py" "$made/synthetic"
/usr/bin/python3 "$here/make_corrupt.py" "$made/frames" "$made/corrupt"
/usr/bin/python3 "$here/make_expected.py" "$made"

parts=(frames synthetic corrupt expected.tsv)
if $check; then
  for part in "${parts[@]}"; do
    diff -r "$here/$part" "$made/$part" || {
      echo "make_golden.sh: $part is not what is made now. If the change is meant, run make_golden.sh and review the diff" >&2
      exit 1
    }
  done
else
  for part in "${parts[@]}"; do
    rm -rf "${here:?}/$part"
    cp -r "$made/$part" "$here/$part"
  done
fi
