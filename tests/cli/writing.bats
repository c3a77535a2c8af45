# What is on disk whatever happens while a file is written: killed at any call, a full disk, a disk that fails, calls
# that write less than they were asked to. Moments are system calls, counted, not times.

bats_require_minimum_version 1.5.0
load helper

teardown() {
  if mountpoint -q disk; then umount disk; fi
}

# at_call N CALLS WHAT COMMAND...: runs COMMAND, WHAT (strace's inject: "signal=KILL", "error=ENOSPC") happening at the
# N-th of the CALLS in each thread. Prints the exit status; strace itself ends as the program does.
at_call() {
  local n=$1 calls=$2 what=$3 status=0
  shift 3
  strace -f -qq -o trace -e "trace=$calls" -e "inject=$calls:$what:when=$n" "$@" >/dev/null 2>stderr.txt || status=$?
  echo "$status"
}

require_tracing() {
  command -v strace >/dev/null || skip "strace is not installed"
  strace -qq -o /dev/null true 2>/dev/null || skip "this machine does not allow tracing"
}

# kill_at_calls STEP COMMAND...: kills COMMAND at its 1st, (1 + STEP)-th, .. of the calls that touch files, until it is done before. The
# file named by $target is `old` or equal to `new` at every moment; $moments counts them.
kill_at_calls() {
  local step=$1 n status
  shift
  moments=0
  for ((n = 1; n < 2000; n += step)); do
    cp old "$target"
    status=$(at_call "$n" openat,write,pwrite64,fsync,rename,renameat2,unlink,close,ftruncate signal=KILL "$@")
    cmp -s "$target" old || cmp -s "$target" new || {
      echo "killed at call $n: $target is neither the old nor the complete file" >&2
      return 1
    }
    if [ "$status" -eq 0 ]; then
      cmp -s "$target" new || { echo "complete, but not what was expected" >&2; return 1; }
      break
    fi
    [ "$status" -eq 137 ] || { echo "call $n: status $status" >&2; cat stderr.txt >&2; return 1; }
    moments=$((moments + 1))
    find . -name '.*.tmp' -delete  # nobody can remove what a killed program leaves
  done
}

@test "killed at any call, compress leaves the old file or the new one" {
  require_tracing
  target=out.jsq
  echo old >old
  jsq compress -q --threads 1 -t ratio=8 -o new "$samples/resnet20_late_fc.weight.npy"
  kill_at_calls "${JSQ_KILL_STEP-5}" "$JSQ_BIN" compress -q -f --threads 1 -t ratio=8 -o "$target" "$samples/resnet20_late_fc.weight.npy"
  [ "$moments" -ge 5 ]
}

@test "killed at any call, decompress leaves the old file or the new one" {
  require_tracing
  target=back.npy
  echo old >old
  jsq compress -q -t ratio=8 -o in.jsq "$samples/resnet20_late_fc.weight.npy"
  jsq decompress -q -o new.npy in.jsq
  mv new.npy new
  kill_at_calls "${JSQ_KILL_STEP-5}" "$JSQ_BIN" decompress -q -f --threads 1 -o "$target" in.jsq
  [ "$moments" -ge 5 ]
}

@test "a disk that is full or fails at any call is exit 7, the old file or the new one whole, nothing left behind" {
  require_tracing
  local calls error n status failures=0
  echo old >out.jsq
  for calls in write fsync rename; do
    for error in ENOSPC EIO; do
      for n in 1 2 3; do
        status=$(at_call "$n" "$calls" "error=$error" "$JSQ_BIN" compress -q -f -t ratio=8 -o out.jsq "$samples/resnet20_late_fc.weight.npy")
        if [ "$status" -eq 0 ]; then  # so few calls, or a folder's fsync, which not every file system can do
          jsq test -q out.jsq
          echo old >out.jsq
          continue
        fi
        failures=$((failures + 1))
        [ "$status" -eq "$EXIT_WRITE" ] || { echo "$calls $n $error: status $status" >&2; cat stderr.txt >&2; return 1; }
        # After the renaming only the folder's own fsync is left: then the new file is there, and whole.
        [ "$(head -c 3 out.jsq)" = old ] || jsq test -q out.jsq || { echo "$calls $n $error: neither the old nor the new file" >&2; return 1; }
        echo old >out.jsq
        no_temporaries
      done
    done
  done
  [ "$failures" -ge 8 ]
}

@test "a disk of one megabyte that fills up is exit 7, the old file intact" {
  mkdir disk
  mount -t tmpfs -o size=1m tmpfs disk 2>/dev/null || skip "only root can mount a small disk"
  dumps make large big.npy
  echo old >disk/out.jsq
  expect "$EXIT_WRITE" jsq compress -q -f -m fp32 -o disk/out.jsq big.npy
  contains "$stderr" "No space left"
  [ "$(cat disk/out.jsq)" = old ]
  no_temporaries disk
  jsq compress -q -m fp32 -o big.jsq big.npy
  echo old >disk/back.npy
  expect "$EXIT_WRITE" jsq decompress -q -f -o disk/back.npy big.jsq
  [ "$(cat disk/back.npy)" = old ]
  no_temporaries disk
}

@test "calls that write less than they were asked to change nothing" {
  [ -n "${JSQ_SHORT_WRITES-}" ] || skip "the library of short writes was not built"
  jsq compress -q -t ratio=8 -o whole.jsq "$samples/resnet20_late_fc.weight.npy"
  LD_PRELOAD=$JSQ_SHORT_WRITES "$JSQ_BIN" compress -q -t ratio=8 -o short.jsq "$samples/resnet20_late_fc.weight.npy"
  cmp whole.jsq short.jsq
  LD_PRELOAD=$JSQ_SHORT_WRITES "$JSQ_BIN" decompress -q -o short.npy short.jsq
  jsq decompress -q -o whole.npy whole.jsq
  cmp whole.npy short.npy
  LD_PRELOAD=$JSQ_SHORT_WRITES "$JSQ_BIN" decompress -q -o - short.jsq | cmp - whole.npy
}

@test "links are followed to what they name, hard links broken, and a FIFO is written to" {
  echo old >file
  ln -s file link
  expect 0 jsq compress -q -f -t ratio=8 -o link "$samples/resnet20_late_fc.weight.npy"
  jsq test -q link
  echo old >one
  ln one two
  expect 0 jsq compress -q -f -t ratio=8 -o one "$samples/resnet20_late_fc.weight.npy"
  jsq test -q one
  [ "$(cat two)" = old ]
  mkfifo pipe
  cat pipe >received &
  expect 0 jsq compress -q -f -t ratio=8 -o pipe "$samples/resnet20_late_fc.weight.npy"
  wait
  cmp received one
}
