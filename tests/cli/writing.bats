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

# stop_while_writing TARGET MOMENTS SIGNAL STATUS COMMAND...: SIGNAL arrives at MOMENTS calls of COMMAND that write, spread evenly over all of
# them. The file TARGET is `old` or equal to `new`, the exit STATUS or that of a command that was done.
stop_while_writing() {
  local out=$1 moments=$2 signal=$3 wanted=$4 calls=write,pwrite64,fsync,rename,renameat2,unlink,ftruncate count i n status
  shift 4
  cp old "$out"
  strace -f -qq -o trace -e "trace=$calls" "$@"
  count=$(wc -l <trace)
  [ "$count" -ge "$moments" ] || { echo "only $count calls write" >&2; return 1; }
  for ((i = 0; i < moments; i++)); do
    n=$((1 + i * count / moments))
    cp old "$out"
    status=$(at_call "$n" "$calls" "signal=$signal" "$@")
    [ "$status" -eq "$wanted" ] || [ "$status" -eq 0 ] || { echo "call $n: status $status" >&2; cat stderr.txt >&2; return 1; }
    cmp -s "$out" new || { [ "$status" -ne 0 ] && cmp -s "$out" old; } || {
      echo "$signal at call $n: $out is neither the old nor the complete file" >&2
      return 1
    }
    if [ "$signal" = KILL ]; then find . -name '.*.tmp' -delete; fi  # nobody else can
    no_temporaries
  done
}

# moments_of FEW ALL: how many of them this run takes.
moments_of() { if [ "${JSQ_KILL_STEP-5}" -eq 1 ]; then echo "$2"; else echo "$1"; fi; }

@test "stopped at any moment of writing many blocks, compress leaves the old file or the new one, and no temporary" {
  require_tracing
  local command=("$JSQ_BIN" compress -q -f --threads 1 -m signsgd -o out.jsq grad.npy)
  echo old >old
  python -c "import numpy as np; np.save('grad.npy', np.arange(7_000_000, dtype='<f4') - 3e6)"
  "${command[@]}"
  mv out.jsq new
  stop_while_writing out.jsq "$(moments_of 10 200)" KILL 137 "${command[@]}"
  stop_while_writing out.jsq "$(moments_of 5 50)" INT 130 "${command[@]}"
  stop_while_writing out.jsq "$(moments_of 5 50)" TERM 143 "${command[@]}"
}

@test "stopped at any moment of writing, decompress leaves the old file or the new one, and no temporary" {
  require_tracing
  local command=("$JSQ_BIN" decompress -q -f --threads 1 -o back.npy in.jsq)
  echo old >old
  python -c "import numpy as np; np.save('new', np.ones(15_000_000, '<f4'))" && mv new.npy new
  jsq compress -q -m signsgd -o in.jsq new
  stop_while_writing back.npy "$(moments_of 5 50)" KILL 137 "${command[@]}"
  stop_while_writing back.npy "$(moments_of 3 50)" INT 130 "${command[@]}"
  stop_while_writing back.npy "$(moments_of 3 50)" TERM 143 "${command[@]}"
}

@test "a disk that is full or fails at any call is exit 7, the old file or the new one whole, nothing left behind" {
  require_tracing
  local calls error n status failures=0 tried=(write fsync rename) expected=8
  if [ -n "${JSQ_SANITIZED-}" ]; then tried=(fsync rename) expected=6; fi  # which writes to a pipe of its own, and gives up
  echo old >out.jsq
  for calls in "${tried[@]}"; do
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
  [ "$failures" -ge "$expected" ]
}

@test "a target that appears while it is written is not replaced, and one that no name can be given to is exit 7" {
  require_tracing
  local error wanted status
  while read -r error wanted; do
    status=$(at_call 1 renameat2 "error=$error" "$JSQ_BIN" compress -q -t ratio=8 -o out.jsq "$samples/resnet20_late_fc.weight.npy")
    [ "$status" -eq "$wanted" ] || { echo "$error: status $status" >&2; cat stderr.txt >&2; return 1; }
    [ ! -e out.jsq ]
    no_temporaries
  done <<<"EEXIST $EXIT_REFUSED
EACCES $EXIT_WRITE"
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
