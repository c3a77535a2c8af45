# jsq decompress: the dumps come back, whole or in parts, and nothing is written where it should not be.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0
load helper.bash

@test "npy, npz and HDF5 come back with their names, shapes, dtypes, attributes and other contents" {
  dumps make npy grad.npy
  dumps make fortran fortran.npy
  dumps make f16 half.npy
  dumps make f64 double.npy
  dumps make npz grads.npz
  dumps make h5 grads.h5
  mkdir back
  for name in grad.npy fortran.npy half.npy double.npy grads.npz grads.h5; do
    expect 0 jsq compress -r 6 "$name"
    expect 0 jsq decompress -o "back/$name" "$name.jsq"
    dumps same-structure "$name" "back/$name"
  done
}

@test "name.npy.jsq becomes name.npy beside it" {
  mkdir sub
  dumps make npy sub/grad.npy
  expect 0 jsq compress --rm sub/grad.npy
  expect 0 jsq decompress sub/grad.npy.jsq
  contains "$stderr" "-> sub/grad.npy"
  [ -f sub/grad.npy ]
}

@test "a frame of another name gives its dump's own name in the current folder" {
  mkdir sub
  dumps make npy sub/grad.npy
  expect 0 jsq compress -o sub/step100.jsq sub/grad.npy
  expect 0 jsq decompress sub/step100.jsq
  [ -f grad.npy ]
}

@test "several dumps come back in a new folder named after the frame" {
  mkdir -p step/deep
  dumps make npy step/b.npy
  dumps make h5 step/deep/a.h5
  expect 0 jsq compress -r 8 -o archive.jsq step
  expect 0 jsq decompress archive.jsq
  dumps same-structure step/b.npy archive/b.npy
  dumps same-structure step/deep/a.h5 archive/deep/a.h5
  expect "$EXIT_REFUSED" jsq decompress archive.jsq
  expect "$EXIT_REFUSED" jsq decompress -f archive.jsq
  expect 0 jsq decompress -o other archive.jsq
  [ -f other/deep/a.h5 ]
  expect "$EXIT_USAGE" jsq decompress -c archive.jsq
  no_temporaries
}

@test "standard input and standard output carry frames and dumps of each format" {
  dumps make npy grad.npy
  dumps make npz grads.npz
  dumps make h5 grads.h5
  for name in grad.npy grads.npz grads.h5; do
    jsq compress -q -r 8 -c "$name" | jsq decompress -q - >"back-$name"
    jsq compress -q -r 8 -o "$name.jsq" "$name"
    expect 0 jsq decompress -o "file-$name" "$name.jsq"
    dumps same-structure "file-$name" "back-$name"
    [ "$(dumps nmse "file-$name" "back-$name")" = 0.0 ]
  done
}

@test "--tensor takes named tensors, from one dump and from several" {
  dumps make h5 grads.h5
  dumps make npy plain.npy
  expect 0 jsq compress -r 8 -o all.jsq grads.h5 plain.npy
  expect 0 jsq decompress -o all all.jsq
  expect 0 jsq decompress --tensor layer1/bias -o one.h5 all.jsq
  holds "(lambda f: list(f) == ['layer1/bias'] or list(f) == ['layer1'])(__import__('h5py').File('one.h5'))"
  holds "np.array_equal(__import__('h5py').File('one.h5')['layer1/bias'][()], __import__('h5py').File('all/grads.h5')['layer1/bias'][()])"
  expect 0 jsq decompress --tensor plain.npy --to npy -o plain_back.npy all.jsq
  cmp plain_back.npy all/plain.npy
  expect 0 jsq decompress --tensor grads.h5::fc/weight --to npy -o fc.npy all.jsq
  holds "np.array_equal(np.load('fc.npy'), __import__('h5py').File('all/grads.h5')['fc/weight'][()])"
  expect "$EXIT_USAGE" jsq decompress --tensor conv9 -o none.npy all.jsq
  contains "$stderr" "conv9"
}

@test "--slice takes elements of one tensor in C order, also of a tensor in Fortran order" {
  dumps make npy c.npy
  dumps make fortran f.npy
  for name in c f; do
    expect 0 jsq compress -r 8 "$name.npy"
    expect 0 jsq decompress -o whole.npy -f "$name.npy.jsq"
    for slice in 0:10 999:1002 17345:17346 5000: :777 30000:30000 :; do
      expect 0 jsq decompress -f --slice "$slice" -o part.npy "$name.npy.jsq"
      first=${slice%:*} last=${slice#*:}
      holds "np.array_equal(np.load('part.npy'), np.load('whole.npy').ravel(order='C')[${first:-None}:${last:-None}])"
    done
  done
}

@test "a malformed slice, one beyond the end and one of several tensors are usage errors" {
  dumps make npy grad.npy
  dumps make npz grads.npz
  jsq compress -q grad.npy
  jsq compress -q -r 8 grads.npz
  for slice in 5 a:b 1:2:3 7:5 0:100001 -1:5; do
    expect "$EXIT_USAGE" jsq decompress "--slice=$slice" -o part.npy grad.npy.jsq
  done
  contains "$stderr" "--slice"
  expect "$EXIT_USAGE" jsq decompress --slice 0:10 -o part.npz grads.npz.jsq
  contains "$stderr" "--tensor"
  [ ! -e part.npy ] && [ ! -e part.npz ]
}

@test "--as converts elements, --to the format" {
  dumps make npy grad.npy
  expect 0 jsq compress -r 8 grad.npy
  expect 0 jsq decompress -o f32.npy grad.npy.jsq
  expect 0 jsq decompress --as f64 -o f64.npy grad.npy.jsq
  holds "np.load('f64.npy').dtype == 'f8' and np.array_equal(np.load('f64.npy'), np.load('f32.npy'))"
  expect 0 jsq decompress --as f16 -o f16.npy grad.npy.jsq
  holds "np.array_equal(np.load('f16.npy'), np.load('f32.npy').astype('f2'))"
  expect 0 jsq decompress --to npz -o out.npz grad.npy.jsq
  holds "np.array_equal(np.load('out.npz')['arr_0'], np.load('f32.npy'))"
  expect 0 jsq decompress --to h5 grad.npy.jsq
  holds "np.array_equal(__import__('h5py').File('grad.h5')['arr_0'][()], np.load('f32.npy'))"
}

@test "without --to the ending of -o decides the format" {
  dumps make npy grad.npy
  expect 0 jsq compress -r 8 grad.npy
  expect 0 jsq decompress -o f32.npy grad.npy.jsq
  expect 0 jsq decompress -o out.npz grad.npy.jsq
  holds "np.array_equal(np.load('out.npz')['arr_0'], np.load('f32.npy'))"
  expect 0 jsq decompress -o any.name grad.npy.jsq
  cmp any.name f32.npy
}

@test "--to npz turns the datasets of an HDF5 file into members, and a single tensor fits an npy" {
  dumps make h5 grads.h5
  expect 0 jsq compress -r 8 grads.h5
  expect 0 jsq decompress -o back.h5 grads.h5.jsq
  expect 0 jsq decompress --to npz grads.h5.jsq
  holds "sorted(np.load('grads.npz').files) == ['fc/weight', 'layer1/bias', 'layer1/weight']"
  holds "np.array_equal(np.load('grads.npz')['fc/weight'], __import__('h5py').File('back.h5')['fc/weight'][()])"
  expect "$EXIT_UNSUPPORTED" jsq decompress --to npy grads.h5.jsq
  [ ! -e grads.npy ]
}

@test "more declared output than --max-output is refused with the option that allows it" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  expect "$EXIT_LIMIT" jsq decompress -o back.npy --max-output 100KiB grad.npy.jsq
  contains "$stderr" "--max-output 400000"
  [ ! -e back.npy ]
  expect 0 jsq decompress -o back.npy --max-output 400000 grad.npy.jsq
}

@test "stored paths that could leave the output are refused as damaged, and nothing is written" {
  dumps make small aaaa.npy
  jsq compress -q -r 4 -o good.jsq aaaa.npy
  frames rename good.jsq up.jsq aaaa.npy ../a.npy
  frames rename good.jsq root.jsq aaaa.npy /tmp.npy
  frames rename good.jsq dot.jsq aaaa.npy ./aa.npy
  frames rename good.jsq empty.jsq aaaa.npy aa//.npy
  frames rename good.jsq control.jsq aaaa.npy 'aaa\x1b.npy'
  mkdir inside && cd inside
  for name in up root dot empty control; do
    expect "$EXIT_DAMAGED" jsq decompress "../$name.jsq"
    contains "$stderr" "stored path"
    expect "$EXIT_DAMAGED" jsq decompress -o out.npy "../$name.jsq"
  done
  cd ..
  [ -z "$(ls -A inside)" ] && [ ! -e a.npy ]
}

@test "a tensor's name of 65,535 bytes of steps upwards and escapes is no path, and reaches no terminal raw" {
  mkdir outer outer/inner && cd outer/inner
  PYTHONPATH=$JSQ_SOURCE/tests/golden python -c "
import frame_writer as w
name = (b'\\x1b[31m\\n/../' * 7000)[:65535]
open('long.jsq', 'wb').write(w.frame([w.Tensor(name=name, sizes=(0,))], [w.parameters([0, 4], ranges=(1.0, 2.0))]))"
  expect 0 jsq test long.jsq
  expect 0 jsq list --color always long.jsq
  lacks "$output" "$(printf '\033[31m\n')"
  contains "$output" '\x1b[31m\n/../'
  expect "$EXIT_UNSUPPORTED" jsq decompress --to npz -o out.npz long.jsq
  lacks "$stderr" "$(printf '\033')"
  expect "$EXIT_DAMAGED" jsq decompress --to h5 -o out.h5 long.jsq
  lacks "$stderr" "$(printf '\033')"
  expect 0 jsq decompress -o out.npy long.jsq
  holds "np.load('out.npy').shape == (12,)"
  [ "$(find .. -type f | sort | tr '\n' ' ')" = '../inner/long.jsq ../inner/out.npy ' ]
}

@test "two dumps under one stored path are refused as damaged" {
  dumps make small aaaa.npy
  dumps make small bbbb.npy
  jsq compress -q -r 4 -o good.jsq aaaa.npy bbbb.npy
  frames rename good.jsq same.jsq bbbb.npy aaaa.npy
  expect "$EXIT_DAMAGED" jsq decompress same.jsq
  [ ! -e same ]
}

@test "a damaged frame leaves no output and the old target as it was" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  frames flip grad.npy.jsq bad.npy.jsq 300
  expect "$EXIT_DAMAGED" jsq decompress bad.npy.jsq
  [ ! -e bad.npy ]
  echo old >bad.npy
  expect "$EXIT_DAMAGED" jsq decompress -f bad.npy.jsq
  [ "$(cat bad.npy)" = old ]
  no_temporaries
}

@test "an existing output is refused without -f; --rm removes the frame after success only" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  expect "$EXIT_REFUSED" jsq decompress --rm grad.npy.jsq
  [ -e grad.npy.jsq ]
  expect 0 jsq decompress -f -k --rm grad.npy.jsq
  [ -e grad.npy.jsq ]
  expect "$EXIT_USAGE" jsq decompress -f --rm --slice 0:1 grad.npy.jsq
  expect "$EXIT_USAGE" bash -c '"$JSQ_BIN" decompress --rm -o back.npy - <grad.npy.jsq'
  contains "$stderr" "--rm needs a frame that is a file"
  [ ! -e back.npy ]
  expect 0 jsq decompress -f --rm grad.npy.jsq
  [ ! -e grad.npy.jsq ]
}

@test "several frames are restored one by one, a bad one does not stop the others" {
  dumps make npy a.npy
  dumps make small b.npy
  jsq compress -q a.npy
  jsq compress -q -r 4 b.npy
  rm a.npy b.npy
  head -c 100 a.npy.jsq >cut.npy.jsq
  expect "$EXIT_SOME" jsq decompress a.npy.jsq cut.npy.jsq b.npy.jsq
  [ -f a.npy ] && [ -f b.npy ] && [ ! -e cut.npy ]
  expect "$EXIT_USAGE" jsq decompress -o c.npy a.npy.jsq b.npy.jsq
}

@test "the JSON report tells what was written where" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  expect 0 jsq decompress --json -o back.npy grad.npy.jsq
  [ "$(jq -c '.frames[0] | [.path, .output, .output_bytes, .dumps[0].format]' <<<"$output")" = \
    '["grad.npy.jsq","back.npy",400000,"npy"]' ]
}
