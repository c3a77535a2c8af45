// Reading an HDF5 dump. Contiguous datasets are read from the mapped file without HDF5; all others slab by
// slab through it, keeping the last slabs decoded, so that a pass in order inflates each chunk once, and a
// small dump is inflated once. What is listed and kept beside the gradients is decided in hdf5_listing.cpp.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_file.hpp"
#include "formats/hdf5/hdf5_handle.hpp"
#include "formats/hdf5/hdf5_listing.hpp"
#include "formats/hdf5/hdf5_properties.hpp"
#include "formats/hdf5/hdf5_slab.hpp"
#include "formats/mapped_file.hpp"

namespace jsq {

namespace hdf5 {

namespace {

/// Two slabs are kept, and more of them up to so many bytes: methods that search read in any order.
constexpr size_t kept_bytes = size_t(12) << 20;

/// One decoded slab of one tensor, as stored in the file.
struct DecodedSlab {
  size_t tensor = SIZE_MAX;
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t last_use = 0;
  std::vector<std::byte> bytes;
};

class Hdf5Source final : public GradientSource {
 public:
  /// \pre a Session lives.
  Hdf5Source(Handle file, const std::string& path, const std::string& member);
  ~Hdf5Source() override;

  const DumpInfo& dump() const override { return listing_.dump; }
  const std::vector<TensorInfo>& tensors() const override { return listing_.tensors; }
  std::span<const float> read(size_t tensor, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override;
  void read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const override;

 private:
  void check_range(size_t tensor, uint64_t first, size_t count) const;
  std::optional<std::span<const std::byte>> mapped(size_t tensor, uint64_t first, size_t count) const;
  template <class Take>
  void for_each_slab(size_t tensor, uint64_t first, size_t count, Take take) const;
  const DecodedSlab& slab_with(size_t tensor, uint64_t element) const;
  DecodedSlab& free_slab(size_t bytes) const;
  void decode(size_t tensor, const Slab& slab, std::byte* out) const;
  Place at(size_t tensor) const { return {Errc::damaged, path_, listing_.tensors[tensor].name}; }

  std::string path_;
  MappedFile mapping_;
  Listing listing_;
  Handle file_;
  // Guarded by Session: reads of one source from several threads share them.
  mutable Handle open_dataset_;
  mutable size_t open_tensor_ = SIZE_MAX;
  mutable std::vector<DecodedSlab> slabs_;
  mutable uint64_t uses_ = 0;
};

Hdf5Source::Hdf5Source(Handle file, const std::string& path, const std::string& member)
    : path_(path), file_(std::move(file)) {
  const Place place{Errc::damaged, path_, ""};
  listing_ = list_file(file_, path_, member);
  const bool any_mapped = std::any_of(listing_.storage.begin(), listing_.storage.end(),
                                      [](const Storage& storage) { return storage.file_offset.has_value(); });
  if (!any_mapped) return;
  void* descriptor = nullptr;
  require(H5Fget_vfd_handle(file_, H5P_DEFAULT, &descriptor), place, "give its file descriptor");
  const int file_descriptor = *static_cast<const int*>(descriptor);
  struct stat status;
  if (fstat(file_descriptor, &status) != 0)
    throw Error(Errc::read_failed, path_ + ": " + std::strerror(errno));
  mapping_ = MappedFile::of_descriptor(file_descriptor, uint64_t(status.st_size), path_);
  const uint64_t size = mapping_.bytes().size();
  for (size_t t = 0; t < listing_.tensors.size(); ++t) {
    if (!listing_.storage[t].file_offset) continue;
    const uint64_t offset = *listing_.storage[t].file_offset;
    const uint64_t bytes = listing_.tensors[t].stored_bytes();
    if (offset > size || bytes > size - offset)
      throw Error(Errc::damaged, name_of(at(t)) + ": its " + std::to_string(bytes) + " bytes at offset " +
                                     std::to_string(offset) + " reach beyond the end of the file at " +
                                     std::to_string(size) + "; restore the file from its origin");
  }
}

Hdf5Source::~Hdf5Source() {
  const Session session;
  open_dataset_.reset();
  file_.reset();
}

void Hdf5Source::check_range(size_t tensor, uint64_t first, size_t count) const {
  if (tensor >= listing_.tensors.size())
    throw Error(Errc::internal, path_ + ": no tensor " + std::to_string(tensor));
  const uint64_t elements = listing_.tensors[tensor].elements();
  if (first > elements || count > elements - first)
    throw Error(Errc::internal, name_of(at(tensor)) + ": elements " + std::to_string(first) + " to " +
                                    std::to_string(first + count) + " of " + std::to_string(elements) +
                                    " asked for");
}

/// The stored bytes of a range where they lie in order in the file.
std::optional<std::span<const std::byte>> Hdf5Source::mapped(size_t tensor, uint64_t first,
                                                             size_t count) const {
  const Storage& storage = listing_.storage[tensor];
  if (!storage.file_offset) return std::nullopt;
  const size_t element_bytes = dtype_bytes(storage.type.dtype);
  return mapping_.bytes().subspan(*storage.file_offset + first * element_bytes, count * element_bytes);
}

void Hdf5Source::decode(size_t tensor, const Slab& slab, std::byte* out) const {
  const Place place = at(tensor);
  if (open_tensor_ != tensor) {
    open_tensor_ = SIZE_MAX;
    const TensorInfo& info = listing_.tensors[tensor];
    const Handle access =
        make_access_list(info.shape, listing_.storage[tensor].chunk, dtype_bytes(info.dtype), place);
    const std::string name = "/" + info.name;
    open_dataset_ = Handle(require(H5Dopen2(file_, name.c_str(), access), place, "open it"));
    open_tensor_ = tensor;
  }
  const Handle type(require(H5Dget_type(open_dataset_), place, "read its datatype"));
  const SlabSelection selection = select_slab(open_dataset_, slab.start, slab.extent, place);
  require(H5Dread(open_dataset_, type, selection.memory, selection.file, H5P_DEFAULT, out), place,
          "read its values");
}

const DecodedSlab& Hdf5Source::slab_with(size_t tensor, uint64_t element) const {
  ++uses_;
  for (DecodedSlab& slab : slabs_)
    if (slab.tensor == tensor && element >= slab.first && element - slab.first < slab.count) {
      slab.last_use = uses_;
      return slab;
    }
  const TensorInfo& info = listing_.tensors[tensor];
  const Slab wanted = slab_at(info.shape, listing_.storage[tensor].chunk, dtype_bytes(info.dtype), element);
  const size_t bytes = wanted.count * dtype_bytes(info.dtype);
  DecodedSlab& slab = free_slab(bytes);
  slab.tensor = SIZE_MAX;
  slab.bytes.resize(bytes);
  decode(tensor, wanted, slab.bytes.data());
  slab.tensor = tensor;
  slab.first = wanted.first;
  slab.count = wanted.count;
  slab.last_use = uses_;
  return slab;
}

/// A slab for so many bytes: another one, or in its place the one that was not used for longest.
DecodedSlab& Hdf5Source::free_slab(size_t bytes) const {
  const auto last_use = [](const DecodedSlab& slab) { return slab.last_use; };
  size_t kept = bytes;
  for (const DecodedSlab& slab : slabs_) kept += slab.bytes.size();
  while (slabs_.size() > 2 && kept > kept_bytes) {
    const auto oldest = std::ranges::min_element(slabs_, {}, last_use);
    kept -= oldest->bytes.size();
    slabs_.erase(oldest);
  }
  if (slabs_.size() < 2 || kept <= kept_bytes) return slabs_.emplace_back();
  return *std::ranges::min_element(slabs_, {}, last_use);
}

/// Calls take(stored bytes, offset in the range) for the pieces of a range in order, with HDF5 locked.
template <class Take>
void Hdf5Source::for_each_slab(size_t tensor, uint64_t first, size_t count, Take take) const {
  const Session session;
  const size_t element_bytes = dtype_bytes(listing_.tensors[tensor].dtype);
  for (size_t done = 0; done < count;) {
    const DecodedSlab& slab = slab_with(tensor, first + done);
    const uint64_t from = first + done - slab.first;
    const size_t piece = size_t(std::min<uint64_t>(slab.count - from, count - done));
    take(std::span<const std::byte>(slab.bytes).subspan(from * element_bytes, piece * element_bytes), done);
    done += piece;
  }
}

std::span<const float> Hdf5Source::read(size_t tensor, uint64_t first, size_t count,
                                        std::vector<float>& scratch) const {
  check_range(tensor, first, count);
  if (count == 0) return {};
  const TensorType type = listing_.storage[tensor].type;
  const auto in_file = mapped(tensor, first, count);
  if (in_file && type.dtype == DType::f32 && !type.big_endian &&
      reinterpret_cast<uintptr_t>(in_file->data()) % alignof(float) == 0)
    return {reinterpret_cast<const float*>(in_file->data()), count};

  scratch.resize(count);
  if (in_file) {
    decode_elements(type.dtype, type.big_endian, in_file->data(), scratch);
    return scratch;
  }
  for_each_slab(tensor, first, count, [&](std::span<const std::byte> stored, size_t at_element) {
    const size_t piece = stored.size() / dtype_bytes(type.dtype);
    decode_elements(type.dtype, type.big_endian, stored.data(),
                    std::span(scratch).subspan(at_element, piece));
  });
  return scratch;
}

void Hdf5Source::read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const {
  check_range(tensor, first, count);
  if (count == 0) return;
  const TensorType type = listing_.storage[tensor].type;
  const size_t element_bytes = dtype_bytes(type.dtype);
  if (const auto in_file = mapped(tensor, first, count))
    std::memcpy(out, in_file->data(), in_file->size());
  else
    for_each_slab(tensor, first, count, [&](std::span<const std::byte> stored, size_t at_element) {
      std::memcpy(out + at_element * element_bytes, stored.data(), stored.size());
    });
  if (type.big_endian) swap_element_bytes({out, count * element_bytes}, element_bytes);
}

}  // namespace

}  // namespace hdf5

std::unique_ptr<GradientSource> open_hdf5(const std::string& path, const std::string& member) {
  hdf5::check_file(path);
  const hdf5::Session session;
  return std::make_unique<hdf5::Hdf5Source>(hdf5::open_file(path), path, member);
}

}  // namespace jsq
