# What the suites of the program share: a scratch folder for each test, dumps of known values, numbers measured by numpy.
# shellcheck shell=bash disable=SC2154

# The numbers of jsq(1), EXIT STATUS.
export EXIT_SOME=1 EXIT_USAGE=2 EXIT_MISSING=3 EXIT_UNSUPPORTED=4 EXIT_DAMAGED=5 EXIT_REFUSED=6 EXIT_WRITE=7 \
  EXIT_TARGET=8 EXIT_LIMIT=9 EXIT_BACKEND=10 EXIT_ASSERTION=11 EXIT_NEWER=12

setup() {
  [ -x "${JSQ_BIN-}" ] || { echo "JSQ_BIN must name the built program" >&2; return 1; }
  JSQ_SOURCE=${JSQ_SOURCE-$(cd "$BATS_TEST_DIRNAME/../.." && pwd)}
  export samples=$JSQ_SOURCE/samples
  cd "$BATS_TEST_TMPDIR" || return 1
  unset JSQ_THREADS JSQ_BACKEND JSQ_CONFIG NO_COLOR
}

# Debian's Python, which has Debian's numpy and h5py.
python() { PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$@"; }
dumps() { python "$BATS_TEST_DIRNAME/dumps.py" "$@"; }
frames() { python "$BATS_TEST_DIRNAME/frames.py" "$@"; }
jsq() { "$JSQ_BIN" "$@"; }

# expect STATUS COMMAND...: `run` with standard error in $stderr and standard output in $output, and the status checked.
expect() {
  local wanted=$1
  shift
  run --separate-stderr "$@"
  if [ "$status" -ne "$wanted" ]; then
    printf 'status %s instead of %s: %s\nstdout: %s\nstderr: %s\n' "$status" "$wanted" "$*" "$output" "${stderr-}" >&2
    return 1
  fi
}

# contains TEXT PART: PART, literally, is in TEXT.
contains() {
  case $1 in
    *"$2"*) ;;
    *) printf 'expected: %s\nin: %s\n' "$2" "$1" >&2; return 1 ;;
  esac
}

lacks() {
  case $1 in
    *"$2"*) printf 'did not expect: %s\nin: %s\n' "$2" "$1" >&2; return 1 ;;
  esac
}

# holds EXPRESSION: a Python expression over numpy (np) is true.
holds() { python -c "import sys, numpy as np; ok = bool($1); ok or sys.exit('not true: ' + sys.argv[1])" "$1"; }

# No temporary of the program is left in the folder.
no_temporaries() {
  local left
  left=$(find "${1-.}" -name '.*.tmp' -print)
  [ -z "$left" ] || { echo "left behind: $left" >&2; return 1; }
}

# as_stranger COMMAND...: as a user who owns nothing here, where this user may do everything.
as_stranger() {
  if [ "$(id -u)" -ne 0 ]; then
    "$@"
  else
    setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
  fi
}

# A sanitizer takes most of a process's memory for itself, and ends it where memory is refused.
needs_its_own_memory() { [ -z "${JSQ_SANITIZED-}" ] || skip "limits of memory are not a sanitizer's"; }

real_dumps() {
  [ -d "${JSQ_SHARED-}/gradients" ] || skip "JSQ_SHARED names no folder with gradients/"
  export gradients=$JSQ_SHARED/gradients
}
