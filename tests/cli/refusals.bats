# Refusals that no other suite meets: what is wrong, and what to do about it.
bats_require_minimum_version 1.5.0
load helper.bash

# refused STATUS TEXT COMMAND...: ends with it, says TEXT and leaves nothing that was begun.
refused() {
  local wanted=$1 text=$2
  shift 2
  expect "$wanted" "$@"
  contains "$stderr" "$text"
  no_temporaries
}

# Folders x, y and two of dumps of 60 numbers, a dump a.npy and its frame, a frame two.bin of two dumps.
make_files() {
  python -c "
import os
import numpy as np
for path in ('a', 'x/a', 'y/a', 'two/a', 'two/b'):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    np.save(path, np.arange(60, dtype='<f4') - 30)
np.save('empty', np.zeros(0, '<f4'))"
  jsq compress -q -m fp32 a.npy
  jsq compress -q -m fp32 -o two.bin two
}

@test "compress: outputs that have no name, no folder or one name for two" {
  make_files
  refused "$EXIT_USAGE" "gives no name for the output" jsq compress .
  refused "$EXIT_USAGE" "cannot name the frame of standard input" jsq compress --output-dir out -
  refused "$EXIT_USAGE" "would both become out/a.npy.jsq" jsq compress --output-dir out x/a.npy y/a.npy
  refused "$EXIT_USAGE" "--output-dir goes with neither -o nor -c" jsq compress --output-dir out -c a.npy
  refused "$EXIT_WRITE" "missing/out: cannot make the folder" jsq compress --output-dir missing/out a.npy
  [ ! -e out ]
}

@test "compress: layers that are not those of the dump" {
  make_files
  local wrong
  while read -r wrong layers; do
    echo "$layers" >layers.json
    refused "$EXIT_USAGE" "${wrong//_/ }" jsq compress -m rdoq -t nmse=0.1 --layers layers.json -o out.jsq a.npy
  done <<'JSON'
is_not_JSON no
has_no_list_'layers' {}
has_no_list_'layers' {"layers": 5}
layer_0_has_no_shape {"layers": [{}]}
layer_1_does_not_begin_at_30 {"layers": [{"shape": [30]}, {"shape": [30], "offset": 31}]}
layer_0_has_an_impossible_extent {"layers": [{"shape": [0]}]}
layer_0_has_more_than_32_dimensions {"layers": [{"shape": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}]}
layer_0_reaches_beyond_the_60_elements {"layers": [{"shape": [61]}]}
layer_1_reaches_beyond_the_60_elements {"layers": [{"shape": [40]}, {"shape": [5, 5]}]}
its_layers_have_40_elements,_the_dump_has_60 {"layers": [{"shape": [40]}]}
JSON
  echo '{"layers": [{"shape": [60]}]}' >layers.json
  expect "$EXIT_SOME" jsq compress -m rdoq --layers layers.json -o out.jsq two
  contains "$stderr" "--layers names the layers of one dump, and several were given"
  [ ! -e out.jsq ]
}

@test "compress: options of methods that exclude each other" {
  make_files
  refused "$EXIT_USAGE" "give rdoq an nmse, maxabs or cosine target" jsq compress -f -m rdoq -t hprime=0.1 a.npy
  refused "$EXIT_USAGE" "topk: quant=cell is deterministic" jsq compress -f -m topk:values=q4,quant=cell --rounding stochastic a.npy
  refused "$EXIT_USAGE" "jointsq: quant=cell is deterministic" jsq compress -f -m jointsq:quant=cell --rounding stochastic a.npy
  refused "$EXIT_USAGE" "reallocation is defined for the widths 0,2,4,8 only" jsq compress -f -m jointsq:widths=03,realloc=hill a.npy
}

@test "decompress: outputs that two options name, that --rm would lose, or that nothing names" {
  make_files
  refused "$EXIT_USAGE" "-c and -o name two outputs" jsq decompress -c -o back.npy a.npy.jsq
  refused "$EXIT_USAGE" "--rm needs an output file" jsq decompress --rm -c a.npy.jsq
  refused "$EXIT_USAGE" "does not end in .jsq; name the output folder" jsq decompress two.bin
  refused "$EXIT_USAGE" "holds 2 dumps, which do not fit one stream" jsq decompress -c two.bin
  [ -e a.npy.jsq ]
  [ ! -e back.npy ]
}

@test "decompress: a stored path that goes through another dump" {
  dumps make small a.npy
  dumps make small bbb.npy
  jsq compress -q -m fp32 -o good.jsq a.npy bbb.npy
  frames rename good.jsq hostile.jsq bbb.npy a.npy/b
  refused "$EXIT_DAMAGED" "'a.npy/b' goes through a dump of the frame" jsq decompress -o out hostile.jsq
  [ ! -e out ]
}

@test "commands that measure: inputs that are several, empty or without their counterpart" {
  make_files
  refused "$EXIT_USAGE" "stands for 2 dumps; name one" jsq bench two
  refused "$EXIT_USAGE" "has no elements to measure with" jsq bench empty.npy
  refused "$EXIT_USAGE" "has no elements to measure with" jsq simulate empty.npy
  expect "$EXIT_ASSERTION" jsq test --against x two.bin
  contains "$output" "the original has no dump 'b.npy'"
}

@test "analyze says what does not fit in --memory-limit" {
  needs_its_own_memory
  python -c "import numpy as np; np.save('big', np.ones(9_000_000, '<f4'))"
  refused "$EXIT_LIMIT" "--trials sums the errors of all 9000000 elements in memory" \
    jsq --memory-limit 64MiB --threads 1 analyze --trials 2 -m qsgd -t native big.npy
}

@test "analyze warns before it takes long" {
  python -c "
import h5py, numpy as np
with h5py.File('many.h5', 'w') as f:
    for i in range(1100): f[f't{i}'] = np.arange(4, dtype='<f4')"
  expect 0 jsq analyze --bound --per-tensor -m fp32 -t native many.h5
  contains "$stderr" "limits of each of 1100 tensors"
}

@test "standard input that is closed, cannot be read, or is a folder" {
  refused "$EXIT_MISSING" "standard input: cannot inspect" bash -c '"$JSQ_BIN" compress -o out.jsq - <&-'
  refused "$EXIT_MISSING" "standard input: cannot read" bash -c '"$JSQ_BIN" compress -o out.jsq - 0> >(cat)'
  refused "$EXIT_UNSUPPORTED" "standard input is a directory" bash -c '"$JSQ_BIN" compress -o out.jsq - <.'
  [ ! -e out.jsq ]
}

@test "a folder that may not be listed" {
  make_files
  mkdir locked && chmod 0 locked && chmod 755 .
  refused "$EXIT_MISSING" "locked: cannot list the folder" as_stranger "$JSQ_BIN" compress -c locked
  chmod 755 locked
}

@test "no room for temporary data, and a journal that cannot be read or appended to" {
  make_files
  python -c "
import h5py, numpy as np
with h5py.File('h.h5', 'w') as f: f['g'] = np.ones(60, '<f4')"
  jsq compress -q -m fp32 -o h.jsq h.h5
  TMPDIR=$PWD/nowhere refused "$EXIT_WRITE" "set TMPDIR to another folder" jsq decompress -c h.jsq
  refused "$EXIT_MISSING" "cannot read" jsq compare -m qsgd -t native --resume /proc/self/mem a.npy
  head -c 1024 /dev/zero >journal  # all that the limit allows
  refused "$EXIT_WRITE" "journal: cannot append" bash -c 'trap "" XFSZ; ulimit -f 1; "$JSQ_BIN" compare -m qsgd -t native --resume journal a.npy'
}
