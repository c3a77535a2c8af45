#!/usr/bin/env bash
# Installs the Debian 12 packages that jsq needs, and only those that are missing. It changes nothing else.
#
#   tools/setup.sh build   what building and running jsq needs
#   tools/setup.sh test    what the tests need beside that
#   tools/setup.sh samples what samples/train_ddp.py and samples/dump_gradients.py need, some 800 MB: the tests skip them without it
#   tools/setup.sh         the first two
set -euo pipefail

build_packages=(
  g++ cmake ninja-build pkg-config                  # compiler and build
  libcli11-dev libfmt-dev nlohmann-json3-dev        # command line, messages, JSON
  libhdf5-dev libzip-dev                            # dumps: HDF5, npz
  libzstd-dev libxxhash-dev libtbb-dev libhwy-dev   # frames, checksums, threads, SIMD
  libeigen3-dev                                     # matrices of the low-rank methods
  scdoc                                             # man pages
  libopenmpi-dev openmpi-bin                        # compare under mpirun
  gnuplot-nox                                       # pictures, when the program runs
)
test_packages=(
  libgtest-dev librapidcheck-dev librandom123-dev      # unit tests, drawn cases, known answers of Philox
  bats jq bsdextrautils shellcheck mandoc zsh fish     # the program, the scripts, the manual, the completions
  clang-format-14                                      # the layout of the sources
  python3 python3-numpy python3-h5py hdf5-tools        # fixtures made by someone else's code
  python3-xxhash python3-zstandard python3-jsonschema  # the independent decoder, the JSON schemas
  libbenchmark-dev valgrind                            # speed of primitives, instructions of whole commands
  binutils strace mount dpkg-dev                       # nm, moments of writing, a small disk, the package
  chromium fonts-dejavu-core                           # the page of compare --html, and its letters
)

sample_packages=(
  python3-torch python3-sklearn python3-numpy python3-h5py
)

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

case "${1-all}" in
  build) wanted=("${build_packages[@]}") ;;
  test) wanted=("${test_packages[@]}") ;;
  samples) wanted=("${sample_packages[@]}") ;;
  all) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: this is not Debian; install the counterparts of these packages yourself: ${wanted[*]}" >&2
  exit 1
fi

missing=()
for package in "${wanted[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup.sh: all ${#wanted[@]} packages (${1-all}) are installed; nothing to do"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: neither root nor sudo here; ask an administrator for: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup.sh: installing ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
