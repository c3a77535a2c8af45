# jsq test: sound frames pass, every damage is named with its place, and --against measures the error.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0
load helper.bash

@test "a sound frame is ok, with the number of its tensors" {
  dumps make h5 grads.h5
  jsq compress -q -r 8 grads.h5
  expect 0 jsq test grads.h5.jsq
  [ "$output" = "grads.h5.jsq: ok (3 tensors)" ]
  expect 0 jsq test --quick grads.h5.jsq
  expect 0 jsq test - <grads.h5.jsq
}

@test "damage is told with tensor, block, byte and what is still readable" {
  dumps make h5 grads.h5
  jsq compress -q -r 8 grads.h5
  # The first block of the second tensor lies behind the blocks of the first.
  first=$(jq '[.frames[0].tensors[0] | .block_bytes[] + 4] | add + 8 + 20' <<<"$(jsq list -v --json grads.h5.jsq)")
  frames flip grads.h5.jsq bad.jsq "$first"
  name=$(jsq list --json grads.h5.jsq | jq -r '.frames[0].tensors[1].name')
  for option in "" --quick; do
    # shellcheck disable=SC2086
    expect "$EXIT_DAMAGED" jsq test $option bad.jsq
    [ "$output" = "bad.jsq: damaged: tensor 1 '$name', block 1 of 1: checksum mismatch at byte $((first - 20)) (tensors 0, 2 readable)" ]
  done
  expect "$EXIT_DAMAGED" jsq test --json bad.jsq
  [ "$(jq -c '.frames[0] | [.status, .damage[0].tensor, .damage[0].block, .damage[0].offset_bytes]' <<<"$output")" = \
    "[\"damaged\",1,0,$((first - 20))]" ]
}

@test "every flipped bit of a small frame is found" {
  dumps make small a.npy
  jsq compress -q -r 8 a.npy
  size=$(stat -c %s a.npy.jsq)
  for ((offset = 0; offset < size; offset += 7)); do
    frames flip a.npy.jsq bad.jsq "$offset"
    run jsq test bad.jsq
    # A changed magic makes it no frame at all; a changed version is damage of the header.
    [ "$status" -eq "$EXIT_DAMAGED" ] || { [ "$offset" -lt 4 ] && [ "$status" -eq "$EXIT_UNSUPPORTED" ]; }
  done
}

@test "a frame cut anywhere is damaged" {
  dumps make small a.npy
  jsq compress -q -r 8 a.npy
  size=$(stat -c %s a.npy.jsq)
  for length in 0 1 3 4 8 19 20 100 $((size / 2)) $((size - 12)) $((size - 1)); do
    head -c "$length" a.npy.jsq >cut.jsq
    expect "$EXIT_DAMAGED" jsq test cut.jsq
  done
}

@test "one bad frame among several is exit 1, and the others are tested" {
  dumps make small a.npy
  jsq compress -q -r 8 a.npy
  head -c 50 a.npy.jsq >cut.jsq
  expect "$EXIT_SOME" jsq test cut.jsq a.npy.jsq missing.jsq
  contains "$output" "a.npy.jsq: ok (1 tensor)"
  contains "$stderr" "cut.jsq"
  contains "$stderr" "missing.jsq"
}

@test "--against measures what numpy measures" {
  dumps make h5 grads.h5
  jsq compress -q -r 8 grads.h5
  jsq decompress -q -o back.h5 grads.h5.jsq
  expect 0 jsq test --json --against grads.h5 grads.h5.jsq
  holds "abs($(jq '.frames[0].nmse' <<<"$output") / $(dumps nmse grads.h5 back.h5) - 1) < 1e-6"
  expect 0 jsq test --against grads.h5 grads.h5.jsq
  contains "$output" "nmse 0."
  contains "$output" "against grads.h5"
}

@test "--against holds an archive against the folder it was made from" {
  mkdir -p step/deep
  dumps make npy step/b.npy
  dumps make small step/deep/a.npy
  jsq compress -q -r 8 step
  expect 0 jsq test --against step step.jsq
  dumps make small step/c.npy
  expect "$EXIT_ASSERTION" jsq test --against step step.jsq
  contains "$output" "c.npy"
}

@test "--against fails when names, shapes or dtypes differ" {
  dumps make npy a.npy
  dumps make small b.npy
  dumps make h5 grads.h5
  jsq compress -q a.npy
  python -c "import numpy as np; np.save('wide.npy', np.load('a.npy').astype('f8'))"
  python -c "import numpy as np; np.save('turned.npy', np.load('a.npy').reshape(1000, 100))"
  python -c "import numpy as np; np.savez('named.npz', other=np.load('a.npy'))"
  expect "$EXIT_ASSERTION" jsq test --against wide.npy a.npy.jsq
  contains "$output" "f64"
  expect "$EXIT_ASSERTION" jsq test --against turned.npy a.npy.jsq
  contains "$output" "[1000,100]"
  expect "$EXIT_ASSERTION" jsq test --against named.npz a.npy.jsq
  expect "$EXIT_ASSERTION" jsq test --against grads.h5 a.npy.jsq
  expect "$EXIT_MISSING" jsq test --against missing.npy a.npy.jsq
}

@test "--max-nmse is an assertion on the measured error" {
  dumps make npy a.npy
  jsq compress -q a.npy
  expect 0 jsq test --against a.npy --max-nmse 0.9 a.npy.jsq
  expect "$EXIT_ASSERTION" jsq test --against a.npy --max-nmse 1e-6 a.npy.jsq
  contains "$output" "is above 1.00e-06"
  expect "$EXIT_USAGE" jsq test --max-nmse 1 a.npy.jsq
}

@test "--against counts kept non-finite values as exact, and other bits as a failure" {
  dumps make nonfinite bad.npy
  jsq compress -q -r 8 --nonfinite keep bad.npy
  expect 0 jsq test --json --against bad.npy bad.npy.jsq
  holds "0 < $(jq '.frames[0].nmse' <<<"$output") < 1"
  python -c "
import numpy as np
values = np.load('bad.npy')
values[2, 3, 49, 99] = -np.inf
np.save('other.npy', values)"
  expect "$EXIT_ASSERTION" jsq test --against other.npy bad.npy.jsq
}
