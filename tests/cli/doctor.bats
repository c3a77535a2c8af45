# jsq doctor: what is there and what is not, which is never a failure.
bats_require_minimum_version 1.5.0
load helper.bash

check() { jq -c "[.checks[] | select(.area == \"$1\" and .name == \"$2\")][0] | [.usable, .detail]" <<<"$output"; }

@test "version, compiler, libraries, SIMD levels and backends are told" {
  expect 0 jsq --json doctor
  version=$(jq -r .version <<<"$output")
  [ "jsq $version" = "$(jsq --version)" ]
  [ "$(check build jsq)" = "[true,\"$version\"]" ]
  [ "$(check backend cpu | jq '.[0]')" = true ]
  [ "$(jq '[.checks[].area] | unique | contains(["backend", "build", "library", "simd"])' <<<"$output")" = true ]
  for library in zstd xxHash oneTBB fmt CLI11 nlohmann-json HDF5 libzip Highway; do
    [[ $(check library $library) =~ [0-9]\.[0-9] ]] || { echo "no version of $library: $(check library $library)"; return 1; }
  done
  for filter in deflate shuffle fletcher32; do
    [ "$(check "hdf5 filter" $filter | jq '.[0]')" = true ] || { echo "nothing about $filter"; return 1; }
  done
}

@test "an absent backend is told with its reason, and the exit status is 0" {
  expect 0 jsq --json doctor
  [ "$(jq '[.checks[] | select(.area == "backend" and (.usable | not)) | .detail | length > 10] | all' <<<"$output")" = true ]
  if [ "$(check backend cuda | jq '.[0]')" = false ]; then
    expect "$EXIT_BACKEND" jsq --backend cuda compare "$samples/resnet20_mid.npy"
    contains "$stderr" "--backend cpu"
    expect "$EXIT_BACKEND" jsq --backend cuda analyze "$samples/resnet20_mid.npy"
    expect "$EXIT_BACKEND" jsq --backend cuda bench --size 64Ki
  fi
}

@test "gnuplot and Open MPI are told with where they are, or what needs them" {
  mkdir tools
  printf '#!/bin/sh\n' >tools/gnuplot
  chmod +x tools/gnuplot
  PATH=$PWD/tools:$PATH expect 0 jsq --json doctor
  [ "$(check optional gnuplot)" = "[true,\"$PWD/tools/gnuplot\"]" ]
  output=$(PATH=/nowhere "$JSQ_BIN" --json doctor)
  [ "$(check optional gnuplot | jq '.[0]')" = false ]
  contains "$(check optional gnuplot)" "gnuplot-nox"
  module=$(dirname "$JSQ_BIN")/jsq_ranks.so
  if [ -e "$module" ]; then
    [ "$(check optional "Open MPI" | jq '.[0]')" = true ]
    contains "$(check optional "Open MPI")" jsq_ranks.so
  else
    contains "$(check optional "Open MPI")" "JSQ_MPI=ON"
  fi
}

@test "text shows the same, and JSON follows its schema" {
  expect 0 jsq doctor
  [ "${#lines[@]}" -eq $(($(jsq doctor --json | jq '.checks | length') + 1)) ]
  for format in json jsonl; do
    jsq --format $format doctor >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.doctor-1.json" report
  done
}
