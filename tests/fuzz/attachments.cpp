// The private bytes of npz and HDF5 dumps in a frame; the first byte chooses which.
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_attachment.hpp"
#include "formats/npy/npz_attachment.hpp"
#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  fuzz::Input in(data, size);
  const uint8_t kind = in.byte() % 4;
  const std::string_view bytes = in.rest();
  fuzz::only_errors([&] {
    if (kind == 0) {
      decode_npz_tensor_attachment(bytes);
    } else if (kind == 1) {
      const NpzDumpAttachment dump = decode_npz_dump_attachment(bytes);
      const NpzDumpAttachment again = decode_npz_dump_attachment(encode(dump));
      fuzz::expect(again.comment == dump.comment && again.extras.size() == dump.extras.size(),
                   "what was read is written the same");
    } else if (kind == 2) {
      hdf5::parse_attachment(bytes);
    } else {
      skipped_in_hdf5({DumpFormat::hdf5, std::string(bytes)});
    }
  });
  return 0;
}
