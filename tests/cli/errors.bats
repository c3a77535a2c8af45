# Every exit code that can be reached, with what to do next in the message; and what must not be left behind.
# shellcheck disable=SC2016,SC2154
bats_require_minimum_version 1.5.0
load helper.bash

# --- 2: usage --------------------------------------------------------------------------------------------------------

@test "without a command the help is printed, with exit 2" {
  expect "$EXIT_USAGE" jsq
  contains "$stderr" "compress"
  contains "$stderr" "decompress"
  [ -z "$output" ]
}

@test "--help and --version are results: standard output, exit 0" {
  expect 0 jsq --help
  contains "$output" "Exit codes"
  expect 0 jsq -V
  [[ $output =~ ^jsq\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
  for command in compress decompress test list; do
    expect 0 jsq "$command" --help
    contains "$output" "$command"
  done
}

@test "the help of every option states its default" {
  for command in compress decompress test list; do
    options=$(jsq "$command" --help | python -c "
import re, sys
text = sys.stdin.read()
text = text[text.index('Options:'):]
for entry in re.split(r'\n(?=  -)', text)[1:]:
    if '--help' not in entry and '(default: ' not in re.sub(r'\s+', ' ', entry):
        print(entry)")
    [ -z "$options" ] || { echo "$command: $options" >&2; return 1; }
  done
}

@test "unknown commands, options, methods, targets and choices are usage errors" {
  dumps make small a.npy
  expect "$EXIT_USAGE" jsq frobnicate
  contains "$stderr" "jsq --help"
  expect "$EXIT_USAGE" jsq compress --frobnicate a.npy
  contains "$stderr" "jsq compress --help"
  expect "$EXIT_USAGE" jsq compress
  expect "$EXIT_USAGE" jsq compress -m nomethod a.npy
  expect "$EXIT_USAGE" jsq compress -m jointsq:nooption=1 a.npy
  expect "$EXIT_USAGE" jsq compress -t size=3 a.npy
  expect "$EXIT_USAGE" jsq compress -t ratio=-3 a.npy
  expect "$EXIT_USAGE" jsq compress -r 8 -t ratio=9 a.npy
  expect "$EXIT_USAGE" jsq compress --scope universe a.npy
  expect "$EXIT_USAGE" jsq compress --threads many a.npy
  expect "$EXIT_USAGE" jsq --memory-limit much list a.npy
  expect "$EXIT_USAGE" jsq compress -c -o x.jsq a.npy
  [ ! -e a.npy.jsq ]
}

# --- 3, 4, 5, 12: inputs ---------------------------------------------------------------------------------------------

@test "missing and unreadable inputs are exit 3" {
  expect "$EXIT_MISSING" jsq compress missing.npy
  contains "$stderr" "missing.npy"
  expect "$EXIT_MISSING" jsq decompress missing.jsq
  expect "$EXIT_MISSING" jsq list missing.jsq
  expect "$EXIT_MISSING" jsq test missing.jsq
  mkdir empty
  expect "$EXIT_MISSING" jsq compress empty
  dumps make small secret.npy
  chmod 0 secret.npy && chmod 755 .
  expect "$EXIT_MISSING" as_stranger "$JSQ_BIN" compress -c secret.npy
}

@test "what is no dump, and dtypes that are no floats, are exit 4" {
  echo "hello" >note.txt
  expect "$EXIT_UNSUPPORTED" jsq compress note.txt
  contains "$stderr" "note.txt"
  python -c "import numpy as np; np.save('int.npy', np.arange(5))"
  expect "$EXIT_UNSUPPORTED" jsq compress int.npy
  expect "$EXIT_UNSUPPORTED" jsq list note.txt
  dumps make small a.npy
  jsq compress -q -r 4 a.npy
  expect "$EXIT_UNSUPPORTED" jsq compress a.npy.jsq
  contains "$stderr" "decompress"
}

@test "a truncated dump is exit 5" {
  dumps make npy grad.npy
  head -c 1000 grad.npy >cut.npy
  expect "$EXIT_DAMAGED" jsq compress cut.npy
  [ ! -e cut.npy.jsq ]
}

@test "a frame of a newer format is exit 12 for every command that reads frames" {
  dumps make small a.npy
  jsq compress -q -r 4 a.npy
  frames newer a.npy.jsq next.jsq
  for command in decompress test list; do
    expect "$EXIT_NEWER" jsq "$command" next.jsq
    contains "$stderr" "newer"
  done
}

# --- 6: refused ------------------------------------------------------------------------------------------------------

@test "the output may not be an input, not even with -f or by another name" {
  dumps make npy grad.npy
  ln grad.npy hard.npy
  ln -s grad.npy soft.npy
  for output_name in grad.npy hard.npy soft.npy ./grad.npy; do
    expect "$EXIT_REFUSED" jsq compress -f -o "$output_name" grad.npy
    contains "$stderr" "is the input itself"
  done
  jsq compress -q grad.npy
  expect "$EXIT_REFUSED" jsq decompress -f -o grad.npy.jsq grad.npy.jsq
  expect 0 jsq test --against grad.npy grad.npy.jsq
}

@test "a folder is no output file" {
  dumps make npy grad.npy
  mkdir place
  expect "$EXIT_REFUSED" jsq compress -f -o place grad.npy
}

@test "binary never goes to a terminal" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  command -v script >/dev/null || skip "script(1) is not installed"
  for line in "compress -c grad.npy" "decompress -c grad.npy.jsq"; do
    run script -qec "'$JSQ_BIN' $line" /dev/null
    [ "$status" -eq "$EXIT_REFUSED" ]
    contains "$output" "terminal"
  done
}

# --- 7: writing ------------------------------------------------------------------------------------------------------

@test "a full disk is exit 7, for files, streams and results" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  expect "$EXIT_WRITE" jsq compress -o /dev/full grad.npy
  contains "$stderr" "No space left"
  expect "$EXIT_WRITE" bash -c '"$JSQ_BIN" compress -c grad.npy >/dev/full'
  expect "$EXIT_WRITE" jsq decompress -o /dev/full grad.npy.jsq
  expect "$EXIT_WRITE" bash -c '"$JSQ_BIN" decompress -c grad.npy.jsq >/dev/full'
  expect "$EXIT_WRITE" bash -c '"$JSQ_BIN" list grad.npy.jsq >/dev/full'
  expect "$EXIT_WRITE" bash -c '"$JSQ_BIN" compress --dry-run --json grad.npy >/dev/full'
  [ -c /dev/full ]
}

@test "a file size limit is exit 7 and leaves the old output as it was" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  echo old >back.npy
  expect "$EXIT_WRITE" bash -c 'trap "" XFSZ; ulimit -f 100; "$JSQ_BIN" decompress -f -o back.npy grad.npy.jsq'
  [ "$(cat back.npy)" = old ]
  no_temporaries
}

@test "devices are written directly and stay devices" {
  dumps make npy grad.npy
  expect 0 jsq compress -o /dev/null grad.npy
  [ -c /dev/null ]
  mkfifo pipe
  cat pipe >received.jsq &
  expect 0 jsq compress -o pipe grad.npy
  wait
  [ -p pipe ]
  expect 0 jsq test received.jsq
}

@test "a missing or read-only folder is exit 7" {
  dumps make npy grad.npy
  expect "$EXIT_WRITE" jsq compress -o nowhere/grad.jsq grad.npy
  contains "$stderr" "make the folder first"
  mkdir locked
  chmod 555 locked && chmod 755 . && chmod 644 grad.npy
  expect "$EXIT_WRITE" as_stranger "$JSQ_BIN" compress -o locked/grad.jsq grad.npy
  [ -z "$(ls -A locked)" ]
}

# --- 8, 9, 10 --------------------------------------------------------------------------------------------------------

@test "an unreachable target is exit 8, says the nearest, and the nearest can be had" {
  dumps make npy grad.npy
  expect "$EXIT_TARGET" jsq compress -t bytes=40 grad.npy
  [ ! -e grad.npy.jsq ]
  no_temporaries
  smallest=$(sed -n 's/.* has \([0-9]*\) bytes.*/\1/p' <<<"$stderr")
  expect 0 jsq compress -t "bytes=$smallest" grad.npy
  [ "$(stat -c %s grad.npy.jsq)" -le "$smallest" ]
}

@test "--memory-limit ends with exit 9 when the work does not fit" {
  needs_its_own_memory
  dumps make npy grad.npy
  expect "$EXIT_LIMIT" jsq --memory-limit 1MiB --threads 1 compress grad.npy
  contains "$stderr" "--memory-limit"
  [ ! -e grad.npy.jsq ]
  no_temporaries
  expect 0 jsq --memory-limit 4GiB compress grad.npy
}

@test "a backend that cannot run here is exit 10 with the reason, never another backend" {
  dumps make npy grad.npy
  expect 0 jsq compress --backend cpu grad.npy
  jsq doctor --json | jq -e '[.. | objects | select(.name? == "cuda" and .usable? == true)] | length == 0' >/dev/null ||
    skip "the cuda backend works here"
  expect "$EXIT_BACKEND" jsq compress -f --backend cuda grad.npy
  contains "$stderr" "cuda"
}

@test "every SIMD level of this processor gives the same bytes, and one that is absent is exit 10" {
  dumps make npy grad.npy
  local level usable
  while read -r level usable; do
    if [ "$usable" = true ]; then
      for method in jointsq qsgd thc rdoq; do
        expect 0 jsq compress --simd "$level" -m $method -f -o "$method.$level.jsq" grad.npy
        cmp "$method.$level.jsq" <(jsq -q compress -m $method -o - grad.npy)
      done
      JSQ_SIMD=$level expect 0 jsq decompress -f -o "$level.npy" "qsgd.$level.jsq"
      cmp "$level.npy" <(jsq decompress -o - "qsgd.$level.jsq")
    else
      expect "$EXIT_BACKEND" jsq compress --simd "$level" -o none.jsq grad.npy
      contains "$stderr" "not on this processor"
    fi
  done < <(jsq doctor --json | jq -r '.checks[] | select(.area == "simd") | "\(.name) \(.usable)"')
  [ -e qsgd.scalar.jsq ]
  JSQ_SIMD=abacus expect "$EXIT_USAGE" jsq list qsgd.scalar.jsq
}

# --- Options from elsewhere ------------------------------------------------------------------------------------------

@test "the environment sets threads and backend, and the command line wins" {
  dumps make npy grad.npy
  JSQ_THREADS=2 expect 0 jsq compress -o a.jsq grad.npy
  JSQ_THREADS=none expect "$EXIT_USAGE" jsq compress -o b.jsq grad.npy
  JSQ_BACKEND=abacus expect "$EXIT_USAGE" jsq compress -o b.jsq grad.npy
  JSQ_BACKEND=cuda expect 0 jsq compress --backend cpu -o b.jsq grad.npy
}

@test "a configuration file sets options of all commands and of one, the command line wins" {
  dumps make npy grad.npy
  printf 'seed = 5\n[compress]\nratio = "20"\n' >jsq.toml
  expect 0 jsq --config jsq.toml compress --json -o a.jsq grad.npy
  [ "$(jq -c '.frames[0] | [.target, .seed]' <<<"$output")" = '["ratio=20",5]' ]
  JSQ_CONFIG=jsq.toml expect 0 jsq compress --json -r 10 --seed 6 -o b.jsq grad.npy
  [ "$(jq -c '.frames[0] | [.target, .seed]' <<<"$output")" = '["ratio=10",6]' ]
  printf 'sede = 5\n' >typo.toml
  expect "$EXIT_USAGE" jsq --config typo.toml list a.jsq
  contains "$stderr" "sede"
  expect "$EXIT_USAGE" jsq --config missing.toml list a.jsq
}

# --- Forms of errors -------------------------------------------------------------------------------------------------

@test "in JSON mode errors are JSON on standard error, usage errors too" {
  expect "$EXIT_MISSING" jsq --json list missing.jsq
  [ "$(jq -c '[.schema, .error, .exit_code]' <<<"$stderr")" = '["jsq.error/1","not_found",3]' ]
  expect "$EXIT_USAGE" jsq list --json --frobnicate
  [ "$(jq -r .error <<<"$stderr")" = usage ]
}

@test "every JSON output follows its schema" {
  python -c "import jsonschema" 2>/dev/null || skip "python3-jsonschema is not installed"
  schemas=$JSQ_SOURCE/tools/schema
  dumps make h5 grads.h5
  dumps make nonfinite bad.npy
  for format in json jsonl; do
    jsq --format "$format" compress -f -r 8 --scope tensor grads.h5 >compress.out
    frames validate "$schemas/jsq.compress-1.json" compress.out
    jsq --format "$format" compress --dry-run --nonfinite keep -r 8 -m jointsq:realloc=paper bad.npy >dry.out
    frames validate "$schemas/jsq.compress-1.json" dry.out
    jsq --format "$format" decompress -f -o "back.h5" grads.h5.jsq >decompress.out
    frames validate "$schemas/jsq.decompress-1.json" decompress.out
    jsq --format "$format" list -v grads.h5.jsq >list.out
    frames validate "$schemas/jsq.list-1.json" list.out
    jsq --format "$format" test --against grads.h5 grads.h5.jsq >tested.out
    frames validate "$schemas/jsq.test-1.json" tested.out
    frames flip grads.h5.jsq flipped.jsq 200
    jsq --format "$format" test flipped.jsq >damaged.out || true
    frames validate "$schemas/jsq.test-1.json" damaged.out
    jsq --format "$format" test missing.jsq >/dev/null 2>error.out || true
    frames validate "$schemas/jsq.error-1.json" error.out
  done
}

@test "colour obeys --color and NO_COLOR, and hostile file names never reach the terminal raw" {
  name=$(printf 'x\033[31m.npy')
  expect "$EXIT_MISSING" jsq compress "$name"
  lacks "$stderr" "$(printf '\033')"
  expect "$EXIT_MISSING" jsq --color always compress missing.npy
  contains "$stderr" "$(printf '\033[1;31mjsq:')"
  NO_COLOR=1 expect "$EXIT_MISSING" jsq compress missing.npy
  lacks "$stderr" "$(printf '\033')"
}

@test "progress is drawn when asked for and on a terminal, never into a file" {
  dumps make npy grad.npy
  expect 0 jsq --progress always compress grad.npy
  contains "$stderr" " left"
  expect 0 jsq compress -f grad.npy
  lacks "$stderr" $'\r'
}

# --- Pipes and signals -----------------------------------------------------------------------------------------------

@test "a reader that goes away is success" {
  dumps make large big.npy
  jsq compress -q big.npy
  run bash -c 'set -o pipefail; "$JSQ_BIN" decompress -q -c big.npy.jsq | head -c 10 >/dev/null'
  [ "$status" -eq 0 ] && [ -z "$output" ]
  run bash -c 'set -o pipefail; "$JSQ_BIN" compress -q -c -r 2 big.npy | head -c 10 >/dev/null'
  [ "$status" -eq 0 ] && [ -z "$output" ]
}

# interrupt SIGNAL STATUS COMMAND...: the signal comes once the temporary is there.
interrupt() {
  local signal=$1 wanted=$2
  shift 2
  "$@" >/dev/null 2>&1 3>&- &
  local pid=$! status=0
  until compgen -G '.*.tmp' >/dev/null; do
    kill -0 "$pid" 2>/dev/null || { echo "ended before the signal" >&2; return 1; }
  done
  kill -"$signal" "$pid"
  wait "$pid" || status=$?
  [ "$status" -eq "$wanted" ] || { echo "status $status instead of $wanted" >&2; return 1; }
  no_temporaries
}

@test "TERM, HUP and INT end with 128 + signal and leave neither temporary nor output" {
  dumps make large big.npy
  interrupt TERM 143 "$JSQ_BIN" compress -o out.jsq big.npy
  interrupt HUP 129 "$JSQ_BIN" compress -o out.jsq big.npy
  # A background job of a script ignores INT; bash's monitor mode gives it back.
  set -m
  interrupt INT 130 "$JSQ_BIN" compress -o out.jsq big.npy
  set +m
  [ ! -e out.jsq ]
}

@test "an interrupted decompression leaves the old output, an interrupted folder is removed whole" {
  dumps make large big.npy
  dumps make small a.npy
  jsq compress -q -o both.jsq a.npy big.npy
  jsq compress -q big.npy
  echo old >back.npy
  interrupt TERM 143 "$JSQ_BIN" decompress -f -o back.npy big.npy.jsq
  [ "$(cat back.npy)" = old ]
  interrupt TERM 143 "$JSQ_BIN" decompress -o folder both.jsq
  [ ! -e folder ]
}

@test "a signal that the parent ignores stays ignored" {
  dumps make npy grad.npy
  expect 0 bash -c 'trap "" HUP; "$JSQ_BIN" compress -q -o out.jsq grad.npy & pid=$!; kill -HUP $pid; wait $pid'
  [ -s out.jsq ]
}
